# lmtune: completion for fish

function __lmtune_table
    while read -l line
        set -l row (string split ' ' -- $$line)
        test "$$row[1]" = "$$argv[1]"; and printf '%s\n' $$row[2..]
    end
end

function __lmtune_keys
    echo '$keys' | __lmtune_table $$argv[1]
end

function __lmtune_values
    echo '$values' | __lmtune_table $$argv[1]
    for file in conf/$$argv[1]/*.yaml
        basename $$file .yaml
    end
    if contains -- $$argv[1] ckpt resume model.path
        for folder in outputs/*/*/
            string trim --right --chars=/ -- $$folder
        end
    end
end

function __lmtune_complete
    set -l words (commandline -opc)
    set -l word (commandline -ct)
    if test (count $$words) -eq 1
        printf '%s\n' $commands
    else if not string match -q '*=*' -- $$word
        printf '%s=\n' (__lmtune_keys $$words[2])
    else
        set -l key (string split -m 1 = -- $$word)[1]
        set -l typed (string replace -r '[^=,]*$$' '' -- $$word)
        set -l found (__lmtune_values $$key)
        if test (count $$found) -gt 0
            printf '%s\n' $$typed$$found
        else
            set -l start (string split -m 1 = -- $$word)[2]
            for path in (complete -C "cat $$start" 2>/dev/null | string split -f 1 \t)
                printf '%s\n' $$key=$$path
            end
        end
    end
end

complete -c lmtune -f -a '(__lmtune_complete)'

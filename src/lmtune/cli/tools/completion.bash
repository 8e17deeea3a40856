# lmtune: completion for bash

_lmtune_keys() {
  while read -r command keys; do
    [ "$$command" = "$$1" ] && printf '%s=\n' $$keys
  done <<'END'
$keys
END
}

_lmtune_values() {
  while read -r key values; do
    [ "$$key" = "$$1" ] && printf '%s\n' $$values
  done <<'END'
$values
END
  for file in conf/"$$1"/*.yaml; do
    [ -f "$$file" ] && basename "$$file" .yaml
  done
  case "$$1" in ckpt | resume | model.path) compgen -d -- outputs/ | while read -r name; do compgen -d -- "$$name/"; done ;; esac
}

_lmtune() {
  local line="$${COMP_LINE:0:$$COMP_POINT}" word key start values
  word="$${line##*[[:space:]]}"
  COMPREPLY=()
  compopt -o nospace 2>/dev/null
  if [ "$$COMP_CWORD" -eq 1 ]; then
    compopt +o nospace 2>/dev/null
    COMPREPLY=($$(compgen -W "$commands" -- "$$word"))
    return
  fi
  if [[ "$$word" != *=* ]]; then
    COMPREPLY=($$(compgen -W "$$(_lmtune_keys "$${COMP_WORDS[1]}")" -- "$$word"))
    return
  fi
  key="$${word%%=*}" start="$${word#*=}"
  values="$$(_lmtune_values "$$key")"
  # Behind several values the last one is completed: seed=1,2
  local before=""
  [[ "$$start" == *,* ]] && before="$${start%,*}," && start="$${start##*,}"
  if [ -n "$$values" ]; then
    COMPREPLY=($$(compgen -W "$$values" -P "$$before" -- "$$start"))
  fi
  if [ "$${#COMPREPLY[@]}" -eq 0 ]; then
    COMPREPLY=($$(compgen -P "$$before" -f -- "$$start"))
  fi
  # Where = breaks words, the shell puts the reply behind it; elsewhere in place of the whole word.
  if [[ "$$COMP_WORDBREAKS" != *=* ]]; then
    COMPREPLY=("$${COMPREPLY[@]/#/$$key=}")
  fi
}

complete -F _lmtune lmtune

#compdef lmtune
# lmtune: completion for zsh

_lmtune_table() {
  local name rest
  while read -r name rest; do
    [[ "$$name" == "$$1" ]] && print -rl -- $${=rest}
  done
}

_lmtune_keys() {
  _lmtune_table "$$1" <<'END'
$keys
END
}

_lmtune_values() {
  _lmtune_table "$$1" <<'END'
$values
END
  print -rl -- conf/$$1/*.yaml(N:t:r)
  case "$$1" in ckpt|resume|model.path) print -rl -- outputs/*/*(N/) ;; esac
}

_lmtune() {
  local key
  local -a found
  if (( CURRENT == 2 )); then
    compadd -- $commands
    return
  fi
  if [[ "$$PREFIX" != *=* ]]; then
    found=($${(f)"$$(_lmtune_keys $$words[2])"})
    compadd -S '=' -- $$found
    return
  fi
  key="$${PREFIX%%=*}"
  compset -P 1 '*='
  compset -P '*,'
  found=($${(f)"$$(_lmtune_values $$key)"})
  compadd -- $$found || _files
}

compdef _lmtune lmtune

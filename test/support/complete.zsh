# What zsh would offer: zsh -f complete.zsh FOLDER LINE
# Completions need a line editor, so an interactive zsh on a terminal of its own is given LINE and a tab. It finds
# its functions in FOLDER. Every word that they add is printed as a line.

if [[ -o interactive ]]; then
  # The editor listens when it shows its prompt.
  PS1='complete:ready '
  fpath=($COMPLETIONS $fpath)
  autoload -Uz compinit
  compinit -u -D
  compadd() {
    local -a words
    # With -O, -A or -D it only says which words would match.
    if (( ! ${argv[(I)-[OAD]]} )); then
      builtin compadd -A words "$@"
      print -rl -- "" offered:$^words >>$OFFERS
    fi
    builtin compadd "$@"
  }
  return
fi

zmodload zsh/zpty
export COMPLETIONS=$1 OFFERS=$(mktemp)
zpty shell zsh -f -i
zpty -w shell "source ${(q)ZSH_ARGZERO}"
zpty -r -m shell part '*complete:ready*'
zpty -w -n shell $2$'\t'
# Control-U takes the line away again. The word must not be in what the terminal echoes.
zpty -w -n shell $'\x15'
zpty -w shell "print complete:do''ne"
zpty -r -m shell part '*complete:done*'
cat $OFFERS
rm -f $OFFERS

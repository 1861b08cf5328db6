# bash completion for flextrace: subcommands, their options (read from --help), files.
_flextrace() {
    local current=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} verb= words
    if [ "$COMP_CWORD" -eq 1 ]; then
        words=$(flextrace --help 2>/dev/null | sed -n 's/^  \([a-z][a-z]*\) .*/\1/p')
        COMPREPLY=($(compgen -W "$words --help --version" -- "$current"))
        return
    fi
    case $current in
    -*)
        [[ $command =~ ^(attack|audit|index|key|receipt|tokenizer|train)$ ]] && [ "$COMP_CWORD" -gt 2 ] && verb=${COMP_WORDS[2]}
        words=$(flextrace "$command" $verb --help 2>/dev/null | grep -oE -- '(^|[ ,])--?[a-z][a-z0-9-]*' | tr -d ' ,' | sort -u)
        COMPREPLY=($(compgen -W "$words" -- "$current"))
        ;;
    *)
        if [ "$COMP_CWORD" -eq 2 ] && [[ $command =~ ^(attack|audit|index|key|model|privacy|receipt|tokenizer|train)$ ]]; then
            case $command in
            index) words="build add remove compact query stat verify" ;;
            model) words="info add remove verify" ;;
            train) words="public expert step" ;;
            attack) words="extraction" ;;
            audit) words="export import routing verify log head erase left summary compact" ;;
            privacy) words="epsilon sigma" ;;
            receipt) words="verify replay make salt" ;;
            key) words="new show" ;;
            tokenizer) words="train" ;;
            esac
            COMPREPLY=($(compgen -W "$words" -- "$current"))
        else
            COMPREPLY=($(compgen -f -- "$current"))
        fi
        ;;
    esac
}
complete -o filenames -F _flextrace flextrace

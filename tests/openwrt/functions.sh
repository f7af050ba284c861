# What /lib/functions.sh of OpenWrt does with /etc/config, as far as packaging/openwrt needs it. There `uci export` prints the
# file in words of the shell, which are the functions config, option and list; here the file is read as it is.

config_load() { . "$UCI/$1"; }

config() {
    number=$((number + 1))
    section=${2:-cfg$number}
    sections="$sections $section"
    eval "CONFIG_${section}_TYPE=\$1"
}

option() { eval "CONFIG_${section}_$1=\$2"; }

list() {
    eval "length=\$((CONFIG_${section}_$1_LENGTH + 1))"
    eval "CONFIG_${section}_$1_LENGTH=$length; CONFIG_${section}_$1_ITEM$length=\$2"
    eval "CONFIG_${section}_$1=\"\${CONFIG_${section}_$1:+\$CONFIG_${section}_$1 }\$2\""
}

config_get() { eval "$1=\${CONFIG_$2_$3:-\$4}"; }

config_get_bool() {
    config_get "$@"
    eval "got=\$$1"
    case $got in
        1 | on | true | yes | enabled) eval "$1=1" ;;
        0 | off | false | no | disabled) eval "$1=0" ;;
        *) eval "$1=\$4" ;;
    esac
}

config_foreach() {
    local called=$1 wanted=$2 each found
    shift 2
    for each in $sections; do
        config_get found "$each" TYPE
        [ "$found" != "$wanted" ] || "$called" "$each" "$@"
    done
}

config_list_foreach() {
    local section=$1 name=$2 called=$3 i=1 length item
    shift 3
    config_get length "$section" "${name}_LENGTH"
    while [ "$i" -le "${length:-0}" ]; do
        config_get item "$section" "${name}_ITEM$i"
        "$called" "$item" "$@"
        i=$((i + 1))
    done
}

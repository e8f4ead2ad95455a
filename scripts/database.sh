# Sourced by ./up and ./test: is there a PostgreSQL server program on this machine?

have_postgres() {
    local directory
    for directory in ${PATH//:/ } $(pg_config --bindir 2>/dev/null) /usr/lib/postgresql/*/bin; do
        if [ -x "$directory/postgres" ] && [ -x "$directory/initdb" ]; then
            return 0
        fi
    done
    return 1
}

# Installs it where that is possible without a question; says so when it is not.
install_postgres() {
    local become=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null && sudo -n true 2>/dev/null || return 1
        become=(sudo -n)
    fi
    command -v apt-get >/dev/null || return 1
    "${become[@]}" apt-get update -qq &&
        "${become[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends postgresql >/dev/null
}

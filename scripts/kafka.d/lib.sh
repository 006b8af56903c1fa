# What the scripts with Java, and some others, share. Sourced, not run.
KAFKA_VERSION=${EVENTBUS_KAFKA_VERSION:-4.3.1}
kafka_cache=${XDG_CACHE_HOME:-$HOME/.cache}/eventbus-kafka
kafka_d=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

say() { echo "$(basename "$0"): $*" >&2; }
die() { say "$@"; exit 1; }

# need COMMAND HINT: stop with what to install if the command is missing.
need() { command -v "$1" >/dev/null || die "$1 not found: install $2"; }

# java_version: its first number, 0 where it does not say; Java 8 calls itself 1.
java_version() { java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | grep -m1 . || echo 0; }

need_java() {
  need java "a JDK 17 or newer (Debian: apt-get install default-jdk-headless)"
  local v; v=$(java_version)
  [ "$v" -ge 17 ] || die "Kafka $KAFKA_VERSION needs Java 17 or newer, java is version $v"
}

# jars_match FOLDER LIST: it has the jars of the list, byte for byte, and no others.
jars_match() {
  [ -f "$2" ] || die "$2 is missing: it is what sha256sum *.jar prints for the jars of the pom, once they are known to be good"
  (cd "$1" && [ "$(printf '%s\n' *.jar | wc -l)" = "$(wc -l <"$2")" ] && sha256sum --quiet --strict -c "$2") >&2
}

# jars POM LIST FOLDER [OPTION...]: fills a folder of the cache with the jars that a pom names, from Maven the first time; they have to be those of
# the list.
jars() {
  local pom=$1 list=$2 folder=$3; shift 3
  [ -f "$folder/.complete" ] && jars_match "$folder" "$list" && return
  need mvn "Maven (Debian: apt-get install maven)"
  say "fetching the jars of $pom to $folder"
  local tmp=$folder.$$; rm -rf "$tmp"; mkdir -p "$tmp"
  # -C: a jar that does not match the repository's own checksum is an error
  mvn -B -q -C -Dstyle.color=never -f "$pom" dependency:copy-dependencies -DincludeScope=runtime "$@" -DoutputDirectory="$tmp" >&2 ||
    { rm -rf "$tmp"; die "Maven could not fetch the jars"; }
  jars_match "$tmp" "$list" || { rm -rf "$tmp"; die "these are not the jars of $list"; }
  touch "$tmp/.complete"
  # -T: if another run was faster, keep its folder
  mv -T "$tmp" "$folder" 2>/dev/null || { [ -f "$folder/.complete" ] && jars_match "$folder" "$list" && rm -rf "$tmp"; } ||
    { rm -rf "$folder"; mv -T "$tmp" "$folder"; }
}

# fetch_jars: sets $libs to a folder with the broker's jars
fetch_jars() {
  libs=$kafka_cache/libs-$KAFKA_VERSION
  jars "$kafka_d/pom.xml" "$kafka_d/jars-$KAFKA_VERSION.sha256" "$libs" -Dkafka.version="$KAFKA_VERSION"
}

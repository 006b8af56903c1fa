# What scripts/kafka and scripts/kafka-image share. Sourced, not run.
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

# jars_match FOLDER: it has the jars of the list for this version, byte for byte, and no others.
jars_match() {
  local list=$kafka_d/jars-$KAFKA_VERSION.sha256
  [ -f "$list" ] || die "$list is missing: it is what sha256sum *.jar prints for the jars of Kafka $KAFKA_VERSION, once they are known to be good"
  (cd "$1" && [ "$(printf '%s\n' *.jar | wc -l)" = "$(wc -l <"$list")" ] && sha256sum --quiet --strict -c "$list") >&2
}

# fetch_jars: sets $libs to a folder with the broker's jars, from Maven the first time.
fetch_jars() {
  libs=$kafka_cache/libs-$KAFKA_VERSION
  [ -f "$libs/.complete" ] && jars_match "$libs" && return
  need mvn "Maven (Debian: apt-get install maven)"
  say "fetching the jars of Kafka $KAFKA_VERSION to $libs"
  local tmp=$libs.$$; rm -rf "$tmp"; mkdir -p "$tmp"
  # -C: a jar that does not match the repository's own checksum is an error
  mvn -B -q -C -Dstyle.color=never -f "$kafka_d/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -Dkafka.version="$KAFKA_VERSION" -DoutputDirectory="$tmp" >&2 || { rm -rf "$tmp"; die "Maven could not fetch the jars"; }
  jars_match "$tmp" || { rm -rf "$tmp"; die "these are not the jars of $kafka_d/jars-$KAFKA_VERSION.sha256"; }
  touch "$tmp/.complete"
  # -T: if another run was faster, keep its folder
  mv -T "$tmp" "$libs" 2>/dev/null || { [ -f "$libs/.complete" ] && jars_match "$libs" && rm -rf "$tmp"; } || { rm -rf "$libs"; mv -T "$tmp" "$libs"; }
}

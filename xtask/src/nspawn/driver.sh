#!/bin/sh
# Runs inside the container once it is up: the .deb installed, and the service started, hit, upgraded, reloaded, starved,
# stopped, removed and purged under a real systemd; then the .rpm, with Debian's rpm.
# Each claim prints `TEST PASS name` or `TEST FAIL name: why`; the container's exit status tells that the end was reached.

# What `systemd-analyze security` gives the units, times ten: at most this.
EXPOSURE_ROOT=34
EXPOSURE_LSM=24
LISTED=203.0.113.7:443
ADDED=203.0.113.8:443
UNLISTED=192.0.2.1:443
exec 3>&1

test_that() {
    name=$1
    shift
    if output=$("$@" 2>&1); then
        echo "TEST PASS $name"
    else
        echo "TEST FAIL $name: $(echo "$output" | tail -n 3 | tr '\n' ' ')"
        failed=1
    fi
}

# Polls for so many seconds.
within() {
    tries=$(($1 * 5))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { echo "waited in vain for: $*"; return 1; }
        sleep 0.2
    done
}

# Never 0, which is a process group to kill(1).
daemon() { pid=$(property MainPID); [ "$pid" -gt 0 ] && echo "$pid"; }
property() { systemctl show --property "$1" --value "$unit"; }
is_restarted() { [ "$(property NRestarts)" -gt "$1" ]; }
is_ready() { cordon status --json | grep -q '"generation": *[1-9]'; }
is_gone() { ! cordon status >/dev/null 2>&1; }
in_scope() { sh -c 'echo $$ > "$0/cgroup.procs" && exec "$@"' "$scope" "$@"; }
passes() { in_scope /driver/act sandbox-act --connect "$1"; }
blocked() { passes "$1"; [ $? -eq 77 ] || { echo "$1 was not blocked"; return 1; }; }
# Denied before it starts, or killed before its first instruction.
stopped() { in_scope /driver/implant; case $? in 126 | 137) ;; *) echo "the listed program ran"; return 1 ;; esac; }
logged() { cordon log -o json | grep -q "\"$1\""; }
logged_block() { cordon log -o json | grep '"blocked"' | grep -q '"driver"'; }
pins() { find /sys/fs/bpf -path '*cordon*' -type f; }
has_no_pins() { [ -z "$(pins)" ] || { echo "pins are left: $(pins)"; return 1; }; }
enforces() { blocked $LISTED && stopped && passes $UNLISTED; }
enforces_nothing() { passes $LISTED && in_scope /driver/implant; }
said() { journalctl --no-pager --unit "$unit" --boot | grep -q "$1"; }
watchdog_timeouts() { journalctl --no-pager --unit "$unit" --boot | grep -c 'Watchdog timeout'; }
is_timed_out() { [ "$(watchdog_timeouts)" -gt "$1" ]; }
is_stalled() { cordon status --json | grep -q 'stage stalled'; }

exposure() {
    verdict=$(systemd-analyze security --no-pager --threshold="$2" "$1") || { echo "$verdict" | tail -n 1; return 1; }
    echo "$verdict" | tail -n 1 >&3
}
units_are_valid() {
    complaints=$(systemd-analyze verify --man=no /usr/lib/systemd/system/cordon.service \
        /usr/lib/systemd/system/cordon-lsm.service 2>&1) && [ -z "$complaints" ] || { echo "$complaints"; return 1; }
}
starts() { systemctl start "$unit" && systemctl is-active --quiet "$unit" && is_ready; }
has_no_faults() { cordon status --json | grep -q '"faults":\[\]' || { cordon status; return 1; }; }
group_may_read() {
    as_member="setpriv --reuid nobody --regid cordon --clear-groups"
    $as_member cordon log -o json | grep -q '"driver"' && $as_member cordon status >/dev/null || return 1
    ! $as_member cordon block 192.0.2.1
}
reload_keeps_the_process() {
    before=$(daemon)
    passes $ADDED || return 1
    echo 203.0.113.8 >> /etc/cordon/driver.txt
    systemctl reload "$unit" && blocked $ADDED && [ "$(daemon)" = "$before" ]
}
kill_is_survived() {
    before=$(property NRestarts)
    kill -KILL "$(daemon)" || return 1
    within 2 is_gone && enforces && is_gone || return 1
    within 20 is_restarted "$before" && within 20 is_ready && enforces
}
hang_is_ended() {
    before=$(property NRestarts)
    kill -STOP "$(daemon)" || return 1
    enforces && within 20 is_timed_out 0 && within 20 is_restarted "$before" && within 20 is_ready && enforces
}
# One thread stands still in a system call while all others go on.
stalled_stage_is_ended() {
    before=$(property NRestarts)
    timeouts=$(watchdog_timeouts)
    thread=$(grep -lx journal "/proc/$(daemon)/task/"*/comm | cut -d / -f 5)
    strace --quiet=all --output=/dev/null -e inject=all:delay_enter=120000000 --attach "$thread" &
    within 40 is_stalled && enforces && within 20 is_timed_out "$timeouts" || return 1
    # A process that is being traced cannot end.
    kill -KILL $!
    within 30 is_restarted "$before" && within 20 is_ready && enforces
}
off_is_off() {
    cordon off --for 1h --reason test && has_no_pins && within 5 enforces_nothing || return 1
    systemctl restart "$unit" && has_no_pins && enforces_nothing || return 1
    cordon on && enforces
}
off_outlives_a_kill() {
    kill -KILL "$(daemon)" || return 1
    within 2 is_gone && cordon off --for 1h --reason test && has_no_pins || return 1
    within 20 systemctl is-active --quiet "$unit" && has_no_pins && enforces_nothing && cordon on && enforces
}
bad_settings_are_said_once() {
    echo 'mood = "enforce"' > /etc/cordon/cordon.d/bad.toml
    ! systemctl restart "$unit" || return 1
    sleep 3
    [ "$(property Result)" = exit-code ] && ! is_restarted 0 && enforces || return 1
    said 'did you mean `mode`' || return 1
    rm /etc/cordon/cordon.d/bad.toml && starts
}
stop_is_heard_during_a_reload() {
    mkdir -p /etc/cordon/intel.d
    awk 'BEGIN { for (i = 0; i < 400000; i++) printf "10.%d.%d.%d\n", i / 65536, i / 256 % 256, i % 256 }' \
        > /etc/cordon/intel.d/many.txt
    systemctl kill --kill-who main --signal HUP "$unit"
    sleep 0.5
    before=$(date +%s)
    stops_cleanly && [ $(($(date +%s) - before)) -lt 10 ] || return 1
    rm /etc/cordon/intel.d/many.txt && starts
}
stops_cleanly() {
    systemctl stop "$unit" && [ "$(property Result)" = success ] && enforces
}
runs_without_root() {
    systemctl start "$unit" && within 20 is_ready || return 1
    [ "$(stat --format %U "/proc/$(daemon)")" = cordon ] || return 1
    cordon status | sed -n '/^ *hook/I,/^$/p' >&3
    cordon status --json | grep -q '"adopted":true' && blocked $LISTED && passes $UNLISTED && within 20 logged driver
}
# What root has the exec guard for: an LSM program does it, or it is said that nothing does.
names_what_is_missing() {
    cordon status --json | grep -Eq '"hook":"lsm_bprm_check_security_ima","state":"attached"|"subject":"fanotify_open_exec"' &&
        [ "$(cordon status --json | grep -o '"subject":' | wc -l)" -le 1 ] || { cordon status; return 1; }
}
deb_is_whole() {
    listed=$(dpkg-deb --contents /driver/cordon.deb)
    for file in usr/bin/cordon usr/lib/systemd/system/cordon.service usr/lib/systemd/system/cordon-lsm.service \
        usr/lib/sysusers.d/cordon.conf usr/lib/tmpfiles.d/cordon.conf etc/cordon/cordon.toml usr/share/man/man1/cordon.1.gz \
        usr/share/bash-completion/completions/cordon usr/share/zsh/vendor-completions/_cordon \
        usr/share/fish/vendor_completions.d/cordon.fish usr/share/doc/cordon/copyright usr/share/doc/cordon/changelog.Debian.gz \
        usr/share/doc/cordon/README.md usr/share/cordon/grafana/cordon.json usr/share/cordon/prometheus/cordon.rules.yml; do
        echo "$listed" | grep -q " \./$file$" || { echo "$file is missing"; return 1; }
    done
}
settings() { mkdir -p /etc/cordon/cordon.d && cp /driver/driver.txt /etc/cordon && cp /driver/driver.toml /etc/cordon/cordon.d; }
# Nobody is asked anything.
installs() {
    settings && dpkg --install /driver/cordon.deb </dev/null || return 1
    systemctl is-active --quiet "$unit" && is_ready && systemctl is-enabled --quiet "$unit" || return 1
    ! systemctl is-enabled --quiet cordon-lsm.service && [ -d /etc/cordon/intel.d ]
}
# What is listed is seen, recorded and let pass.
blocks_nothing_unasked() {
    cordon status --json | grep -q '"mode":"monitor"' && enforces_nothing && within 20 logged would_block && ! logged blocked
}
enforces_when_told() {
    sed -i 's/^mode = "monitor"/mode = "enforce"/' /etc/cordon/cordon.toml && systemctl reload "$unit" && blocked $LISTED
}
probe() { until [ -e /run/probed ]; do passes $LISTED; echo $?; done >/run/probes 2>&1; }
upgrade_keeps_blocking() {
    before=$(daemon)
    edited=$(cat /etc/cordon/cordon.toml)
    rm -f /run/probed
    probe &
    "$@" </dev/null
    status=$?
    touch /run/probed
    wait $!
    echo "$(wc -l </run/probes) probes during the upgrade: $(sort -u /run/probes)" >&3
    [ "$status" -eq 0 ] && [ "$(wc -l </run/probes)" -ge 20 ] && [ "$(sort -u /run/probes)" = 77 ] || return 1
    [ "$(daemon)" != "$before" ] && is_ready && enforces && [ "$(cat /etc/cordon/cordon.toml)" = "$edited" ]
}
deb_upgrades() {
    upgrade_keeps_blocking dpkg --install /driver/upgrade.deb &&
        [ "$(dpkg-query --show --showformat='${Version}' cordon)" = "$(dpkg-deb --field /driver/upgrade.deb Version)" ]
}
upgrade_says_what_keeps_the_agent_down() {
    echo 'mood = "enforce"' >/etc/cordon/cordon.d/bad.toml
    said=$(dpkg --install /driver/upgrade.deb </dev/null 2>&1) || { echo "$said"; return 1; }
    echo "$said" | grep -q 'journalctl --unit cordon.service' && enforces || { echo "$said"; return 1; }
    rm /etc/cordon/cordon.d/bad.toml && starts
}
upgrade_keeps_the_unit() {
    dpkg --install /driver/upgrade.deb </dev/null && systemctl is-active --quiet "$unit" && is_ready && enforces &&
        ! systemctl is-active --quiet cordon.service
}
removal_leaves_the_kernel_alone() {
    systemctl start "$unit" && within 20 is_ready && enforces && dpkg --remove cordon </dev/null || return 1
    ! systemctl is-active --quiet "$unit" && has_no_pins && within 5 enforces_nothing || return 1
    [ ! -e /usr/bin/cordon ] && grep -q '^mode = "enforce"' /etc/cordon/cordon.toml && [ -d /var/log/cordon ]
}
# Another root's pins stand for what an agent that ended has left.
purge_leaves_nothing() {
    mkdir -p /sys/fs/bpf/cordon-0123456789abcdef/v1
    dpkg --purge cordon </dev/null && [ -z "$(ls -d /sys/fs/bpf/cordon* 2>/dev/null)" ] || return 1
    left=$(find /etc /var /run /usr -xdev -name '*cordon*' ! -path '/run/systemd/*' ! -path '*/systemd/journal/*')
    [ -z "$left" ] || { echo "left: $left"; return 1; }
}

# Debian's rpm does not know which of Debian's packages has what.
rpm_here() { rpm --force-debian --nodeps "$@"; }
# Whether it starts is for presets and administrators to say.
rpm_installs() {
    settings && rpm_here --install /driver/cordon.rpm && ! systemctl is-active --quiet "$unit" && has_no_pins || return 1
    [ -d /etc/cordon/intel.d ] && systemctl start "$unit" && is_ready
}
rpm_upgrades() {
    upgrade_keeps_blocking rpm_here --upgrade /driver/upgrade.rpm && [ "$(rpm --query --queryformat '%{RELEASE}' cordon)" = 2 ]
}
rpm_removal_leaves_the_kernel_alone() {
    rpm_here --erase cordon && ! systemctl is-active --quiet "$unit" && has_no_pins && within 5 enforces_nothing || return 1
    [ ! -e /usr/bin/cordon ] && [ -d /var/log/cordon ]
}

failed=0
# As systemd does at boot on a host; in a container it leaves that out, and /sys has no place for it.
mount -o remount,rw /sys && mkdir -p /sys/fs/bpf && mount -t bpf -o mode=0700,nosuid,nodev,noexec bpf /sys/fs/bpf
mount -o remount,ro /sys
ip link set lo up
for address in 192.0.2.1 203.0.113.7 203.0.113.8; do
    ip address add "$address/32" dev lo
done
scope=/sys/fs/cgroup/cordon-test
[ -d /sys/fs/cgroup/unified ] && scope=/sys/fs/cgroup/unified/cordon-test
mkdir -p "$scope"
# The driver's own scope, so that nothing outside the container can be met; and a watchdog that a test can wait for.
for unit in cordon.service cordon-lsm.service; do
    mkdir -p "/run/systemd/system/$unit.d"
    printf '[Unit]\nStartLimitBurst=100\n[Service]\nExecStart=\nExecStart=/usr/bin/cordon run --cgroup %s\nWatchdogSec=6\n' \
        "$scope" > "/run/systemd/system/$unit.d/test.conf"
done
systemctl daemon-reload
/driver/act sandbox-listen --port 443 &
listener=$!

unit=cordon.service
test_that nothing_is_blocked_before within 5 enforces_nothing
test_that the_deb_is_whole deb_is_whole
test_that it_installs_and_the_service_says_when_it_is_ready installs
test_that the_units_are_valid units_are_valid
test_that a_fresh_installation_blocks_nothing blocks_nothing_unasked
test_that it_blocks_when_told enforces_when_told
test_that its_exposure_is_bounded exposure cordon.service $EXPOSURE_ROOT
test_that what_is_listed_is_blocked_and_nothing_else enforces
test_that the_same_program_runs_outside_the_scope /driver/implant
test_that the_record_names_the_source within 20 logged_block
test_that an_upgrade_keeps_blocking_and_the_settings deb_upgrades
test_that the_group_may_read_and_not_write group_may_read
test_that no_fault_is_raised has_no_faults
test_that reload_takes_new_intelligence_and_keeps_the_process reload_keeps_the_process
test_that a_killed_daemon_blocks_on_and_comes_back kill_is_survived
test_that a_hanging_daemon_blocks_on_and_is_replaced hang_is_ended
test_that a_daemon_with_one_hanging_stage_is_replaced stalled_stage_is_ended
test_that off_removes_every_pin_and_survives_a_restart off_is_off
test_that off_holds_when_the_daemon_has_just_died off_outlives_a_kill
test_that bad_settings_are_said_once_and_blocking_goes_on bad_settings_are_said_once
test_that an_upgrade_says_what_keeps_the_agent_down upgrade_says_what_keeps_the_agent_down
test_that a_stop_is_heard_during_a_reload stop_is_heard_during_a_reload
test_that the_service_stops_cleanly_and_blocking_goes_on stops_cleanly

unit=cordon-lsm.service
test_that it_runs_without_root_and_adopts_the_hooks runs_without_root
test_that it_names_what_is_missing_without_root names_what_is_missing
test_that its_exposure_without_root_is_bounded exposure cordon-lsm.service $EXPOSURE_LSM
test_that it_reloads_without_root systemctl reload "$unit"
test_that a_killed_daemon_without_root_blocks_on_and_comes_back kill_is_survived
test_that an_upgrade_without_root_keeps_the_unit upgrade_keeps_the_unit
test_that it_stops_cleanly_without_root stops_cleanly
test_that a_removal_leaves_nothing_in_the_kernel removal_leaves_the_kernel_alone
test_that a_purge_leaves_nothing_on_the_disk purge_leaves_nothing

unit=cordon.service
test_that an_rpm_installs_and_starts_nothing rpm_installs
test_that a_fresh_rpm_blocks_nothing blocks_nothing_unasked
test_that what_an_rpm_installed_blocks_when_told enforces_when_told
test_that an_rpm_upgrade_keeps_blocking_and_the_settings rpm_upgrades
test_that an_rpm_removal_leaves_nothing_in_the_kernel rpm_removal_leaves_the_kernel_alone

kill "$listener"
if [ "$failed" -ne 0 ]; then
    systemctl status --no-pager --lines 0 cordon.service cordon-lsm.service
    journalctl --no-pager --unit cordon.service --unit cordon-lsm.service --lines 60
fi
systemctl exit $((10 + failed))

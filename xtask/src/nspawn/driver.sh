#!/bin/sh
# Runs inside the container once it is up: the service started, hit, reloaded, starved and stopped under a real systemd.
# Each claim prints `TEST PASS name` or `TEST FAIL name: why`; the container's exit status tells that the end was reached.

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

# Polls for at most 20 seconds.
within() {
    tries=0
    until "$@"; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || return 1
        sleep 0.2
    done
}

main_pid() { systemctl show --property MainPID --value cordon.service; }
restarts() { systemctl show --property NRestarts --value cordon.service; }
in_scope() { sh -c 'echo $$ > "$0/cgroup.procs" && exec "$@"' "$CORDON_TEST_CGROUP" "$@"; }
connect() { in_scope /driver/act sandbox-act --connect "$1"; }
blocked() { connect "$1"; [ $? -eq 77 ]; }
logged() { cordon log -o json | grep -q "\"$1\""; }

starts() { systemctl start cordon.service && systemctl is-active --quiet cordon.service; }
is_ready() { cordon status --json | grep -q '"generation": *[1-9]'; }
unlisted_passes() { connect 192.0.2.1:443; }
listed_is_blocked() { blocked 203.0.113.7:443; }
listed_program_is_stopped() { ! in_scope /driver/implant 2>/dev/null; }
program_runs_otherwise() { /driver/implant; }
record_names_the_source() { within logged driver; }
reload_keeps_the_process() {
    before=$(main_pid)
    echo 203.0.113.8 >> /etc/cordon/driver.txt
    systemctl reload cordon.service && [ "$(main_pid)" = "$before" ] && within blocked 203.0.113.8:443
}
kill_is_survived() {
    before=$(restarts)
    systemctl kill --signal KILL cordon.service
    blocked 203.0.113.7:443 || return 1
    within is_ready && [ "$(restarts)" -gt "$before" ] && blocked 203.0.113.7:443
}
watchdog_fires() {
    before=$(restarts)
    kill -STOP "$(main_pid)"
    blocked 203.0.113.7:443 || return 1
    tries=0
    until [ "$(restarts)" -gt "$before" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 60 ] || return 1
        sleep 0.5
    done
    within is_ready
}
stops_cleanly() {
    systemctl stop cordon.service
    [ "$(systemctl show --property Result --value cordon.service)" = success ]
}

failed=0
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
ip link set lo up
for address in 192.0.2.1 203.0.113.7 203.0.113.8; do
    ip address add "$address/32" dev lo
done
CORDON_TEST_CGROUP=/sys/fs/cgroup/cordon-test
[ -d /sys/fs/cgroup/unified ] && CORDON_TEST_CGROUP=/sys/fs/cgroup/unified/cordon-test
mkdir -p "$CORDON_TEST_CGROUP" /run/systemd/system/cordon.service.d
# The driver's own scope, so that nothing outside the container can be met; and a watchdog that a test can wait for.
printf '[Service]\nExecStart=\nExecStart=/usr/bin/cordon run --cgroup %s\nWatchdogSec=6\n' "$CORDON_TEST_CGROUP" \
    > /run/systemd/system/cordon.service.d/test.conf
systemd-sysusers /usr/lib/sysusers.d/cordon.conf
systemd-tmpfiles --create /usr/lib/tmpfiles.d/cordon.conf
systemctl daemon-reload
/driver/act sandbox-listen --port 443 &
listener=$!

test_that the_units_are_valid systemd-analyze verify /usr/lib/systemd/system/cordon.service
test_that the_service_starts_and_says_it_is_ready starts
test_that a_generation_is_live within is_ready
test_that an_unlisted_address_passes unlisted_passes
test_that a_listed_address_is_blocked listed_is_blocked
test_that a_listed_program_is_stopped listed_program_is_stopped
test_that the_same_program_runs_outside_the_scope program_runs_otherwise
test_that the_record_names_the_source record_names_the_source
test_that reload_takes_new_intelligence_and_keeps_the_process reload_keeps_the_process
test_that a_killed_daemon_blocks_on_and_comes_back kill_is_survived
test_that a_hanging_daemon_blocks_on_and_is_replaced watchdog_fires
test_that the_service_stops_cleanly stops_cleanly

kill "$listener"
if [ "$failed" -ne 0 ]; then
    systemctl status --no-pager --lines 0 cordon.service
    journalctl --no-pager --unit cordon.service --lines 40
fi
systemctl exit $((10 + failed))

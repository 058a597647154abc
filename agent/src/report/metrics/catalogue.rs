//! Every metric: its name, what it says and where in the status that stands. docs/metrics.md is the same for people; a test holds
//! the two together (`CORDON_BLESS=1` rewrites the page).

use super::status::{Destination, Source, Status};
use super::{Kind, Values};
use crate::health::Fault;
use crate::journal::LossReason;

/// One metric.
pub(super) struct Metric {
    /// As it is exposed; with its unit, and `_total` if it is a counter.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What one of it is; for the page.
    #[cfg_attr(not(test), expect(dead_code, reason = "only the page says it, and a test writes that"))]
    pub(super) unit: &'static str,
    pub(super) labels: &'static [&'static str],
    /// What it says: a sentence.
    pub(super) help: &'static str,
    /// Takes it out of a status.
    pub(super) read: fn(&Status, &mut Values),
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Status, &mut Values),
) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, help, read }
}

const fn counter(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    read: fn(&Status, &mut Values),
) -> Metric {
    Metric { name, kind: Kind::Counter, unit, labels, help, read }
}

/// All of them, in the order of the page.
pub(super) const METRICS: &[Metric] = &[
    gauge("cordon_build_info", "1", &["version"], "Version of the agent.", |status, values| {
        values.add([&status.version], 1.0)
    }),
    gauge("cordon_mode", "0 or 1", &["mode"], "Whether the mode is in force.", |status, values| {
        for mode in ["enforce", "monitor", "off"] {
            values.add([mode], f64::from(u8::from(status.mode == mode)));
        }
    }),
    gauge("cordon_start_time_seconds", "seconds since 1970", &[], "When the agent started.", |status, values| {
        values.only(status.started.map(|started| started.as_second() as f64));
    }),
    gauge("cordon_generation", "number", &[], "Number of the live generation.", |status, values| {
        values.only(status.generation.map(f64::from));
    }),
    gauge(
        "cordon_generation_published_time_seconds",
        "seconds since 1970",
        &[],
        "When the live generation went live.",
        |status, values| values.only(status.published.map(|published| published.as_second() as f64)),
    ),
    gauge(
        "cordon_generation_hits",
        "hits",
        &["state"],
        "Hits of the live generation as the kernel counts them: recorded in the journal, or unrecorded, on their way there or lost.",
        |status, values| {
            let Some(hits) = &status.hits else { return };
            values.add(["recorded"], hits.recorded as f64);
            values.add(["unrecorded"], hits.unrecorded as f64);
        },
    ),
    gauge("cordon_policy_serial", "number", &[], "Serial of the signed policy in force.", |status, values| {
        values.only(status.policy.as_ref().and_then(|policy| policy.serial).map(|serial| serial as f64));
    }),
    gauge("cordon_table_entries", "values", &["table"], "Distinct values in force, by table.", |status, values| {
        for space in status.tables.iter().flat_map(|tables| &tables.spaces) {
            values.add([&space.table], space.entries as f64);
        }
    }),
    gauge("cordon_image_bytes", "bytes", &[], "Size of the image in the kernel.", |status, values| {
        values.only(status.tables.as_ref().map(|tables| tables.bytes as f64));
    }),
    gauge(
        "cordon_excepted_values",
        "values",
        &[],
        "Values of indicators that lie inside an exception and so always pass.",
        |status, values| values.only(status.tables.as_ref().map(|tables| tables.excepted as f64)),
    ),
    gauge(
        "cordon_unenforced_values",
        "values",
        &["reason"],
        "Values of indicators that cannot be enforced.",
        |status, values| {
            for unenforced in status.tables.iter().flat_map(|tables| &tables.not_enforced) {
                values.add([&unenforced.reason], unenforced.count as f64);
            }
        },
    ),
    gauge(
        "cordon_source_indicators",
        "indicators",
        &["source", "outcome"],
        "Indicators that a source gave: block, report or skipped.",
        |status, values| by_source(status, values, |source| &source.outcome),
    ),
    gauge(
        "cordon_source_skipped_indicators",
        "indicators",
        &["source", "reason"],
        "Indicators of a source that are not used.",
        |status, values| by_source(status, values, |source| &source.skipped),
    ),
    gauge(
        "cordon_source_age_seconds",
        "seconds",
        &["source"],
        "Time since a source was last read or, where it is fetched, last fetched with success.",
        |status, values| {
            for source in &status.sources {
                if let Some(age) = source.age_seconds {
                    values.add([&source.name], age as f64);
                }
            }
        },
    ),
    gauge(
        "cordon_source_up",
        "0 or 1",
        &["source"],
        "Whether the last attempt to fetch and read a source succeeded.",
        |status, values| {
            for source in &status.sources {
                values.add([&source.name], f64::from(u8::from(source.is_good())));
            }
        },
    ),
    gauge(
        "cordon_hook_attached",
        "0 or 1",
        &["hook"],
        "Whether a hook that is to be used is attached in the kernel.",
        |status, values| {
            for hook in status.hooks.iter().filter(|hook| hook.state != "unused") {
                values.add([&hook.hook], f64::from(u8::from(hook.state == "attached")));
            }
        },
    ),
    counter("cordon_judged_total", "operations", &["what"], "What the hooks looked up.", |status, values| {
        kernel(status, values, &[("network", "network_judged"), ("exec", "exec_judged"), ("name", "names_judged")]);
    }),
    counter(
        "cordon_hits_total",
        "hits",
        &["verdict"],
        "Hits: blocked or killed, or reported, which includes would_block.",
        |status, values| kernel(status, values, &[("blocked", "blocked"), ("reported", "reported")]),
    ),
    counter(
        "cordon_passed_unjudged_total",
        "operations",
        &["reason"],
        "What passed the hooks unjudged, or only in part: docs/metrics.md explains the reasons.",
        |status, values| {
            kernel(
                status,
                values,
                &[
                    ("no_image", "no_image"),
                    ("image_damaged", "image_damaged"),
                    ("digest_unknown", "digest_unknown"),
                    ("name_unread", "names_unread"),
                    ("name_encrypted", "names_encrypted"),
                    ("kill_failed", "kill_failed"),
                ],
            );
        },
    ),
    counter(
        "cordon_kernel_lost_total",
        "records",
        &["reason"],
        "Records that found no room in the kernel: docs/metrics.md explains the reasons.",
        |status, values| {
            kernel(
                status,
                values,
                &[
                    ("hit_ring_full", "hit_ring_full"),
                    ("exec_ring_full", "exec_ring_full"),
                    ("hit_counter_full", "hit_counter_full"),
                    ("folds_full", "folds_full"),
                    ("contacts_full", "contacts_full"),
                ],
            );
        },
    ),
    counter(
        "cordon_protection_refused_total",
        "attempts",
        &[],
        "Attempts on the agent that self-protection refused.",
        |status, values| values.only(status.counters.get("protection_refused").map(|count| *count as f64)),
    ),
    counter(
        "cordon_exec_guard_asked_total",
        "execs",
        &[],
        "Execs that the fanotify guard was asked about.",
        |status, values| agent(status, values, "exec_guard.asked"),
    ),
    counter(
        "cordon_exec_guard_denied_total",
        "execs",
        &[],
        "Execs that the fanotify guard denied.",
        |status, values| agent(status, values, "exec_guard.denied"),
    ),
    counter(
        "cordon_exec_guard_unjudged_total",
        "execs",
        &[],
        "Execs that the fanotify guard let pass unjudged.",
        |status, values| agent(status, values, "exec_guard.unjudged"),
    ),
    counter("cordon_findings_recorded_total", "hits", &[], "Hits handed over to the journal.", |status, values| {
        agent(status, values, "findings.recorded")
    }),
    counter(
        "cordon_findings_scan_lost_total",
        "hits",
        &[],
        "Hits of running programs and open flows that could not be handed over.",
        |status, values| agent(status, values, "findings.scan_lost"),
    ),
    counter("cordon_journal_records_total", "records", &[], "Records written.", |status, values| {
        agent(status, values, "journal.written");
    }),
    counter(
        "cordon_journal_folded_total",
        "batches of repeats",
        &[],
        "Additions of repeats to a record that was written before.",
        |status, values| agent(status, values, "journal.folded"),
    ),
    counter(
        "cordon_journal_lost_total",
        "hits",
        &["reason"],
        "Hits known to be missing from the journal: ring_full, queue_full, disk_full, write_failed, undecodable or segment_damaged.",
        |status, values| {
            for reason in LossReason::ALL {
                if let Some(count) = status.count(&format!("journal.lost.{}", reason.name())) {
                    values.add([reason.name()], count);
                }
            }
        },
    ),
    counter(
        "cordon_journal_segments_deleted_total",
        "segments",
        &[],
        "Segments of the journal given up for space or age.",
        |status, values| agent(status, values, "journal.segments_deleted"),
    ),
    counter(
        "cordon_journal_mirror_lost_total",
        "records",
        &[],
        "Records that are in the journal and not in its mirror.",
        |status, values| agent(status, values, "journal.mirror.lost"),
    ),
    counter(
        "cordon_execs_uncompared_total",
        "execs",
        &["reason"],
        "Execs whose command line was not compared with indicators, or of which not all matches were told.",
        |status, values| {
            for (reason, count) in
                [("command_line_unknown", "execs.command_line_unknown"), ("not_told", "execs.not_told")]
            {
                if let Some(count) = status.count(count) {
                    values.add([reason], count);
                }
            }
        },
    ),
    counter("cordon_contacts_forgotten_total", "contacts", &[], "Contacts given up for space.", |status, values| {
        agent(status, values, "contacts.forgotten")
    }),
    counter("cordon_contacts_lost_total", "contacts", &[], "Contacts that could not be kept.", |status, values| {
        agent(status, values, "contacts.lost")
    }),
    counter(
        "cordon_sightings_total",
        "sightings",
        &["destination", "outcome"],
        "Sightings for a destination: sent, refused by it, or dropped because the spool was full.",
        |status, values| {
            for to in destinations(status) {
                values.add([&to.name, "sent"], to.sent as f64);
                values.add([&to.name, "refused"], to.refused as f64);
                values.add([&to.name, "dropped"], to.dropped as f64);
            }
        },
    ),
    counter(
        "cordon_sightings_withheld_total",
        "sightings",
        &["destination", "reason"],
        "Sightings that a destination may not get.",
        |status, values| {
            for to in destinations(status) {
                for (reason, count) in &to.withheld {
                    values.add([to.name.as_str(), reason], *count as f64);
                }
            }
        },
    ),
    gauge(
        "cordon_sightings_waiting",
        "sightings",
        &["destination"],
        "Sightings that wait to be sent.",
        |status, values| {
            for to in destinations(status) {
                values.add([&to.name], to.waiting as f64);
            }
        },
    ),
    counter(
        "cordon_findings_gaps_total",
        "gaps",
        &[],
        "How often the journal had given up records before they were sent to the message bus.",
        |status, values| agent(status, values, "findings.gaps"),
    ),
    counter(
        "cordon_sightings_gaps_total",
        "gaps",
        &[],
        "How often the journal had given up records before they were made sightings of.",
        |status, values| agent(status, values, "sightings.gaps"),
    ),
    counter(
        "cordon_sightings_dropped_total",
        "sightings",
        &[],
        "Sightings given up because the spool was full, over all destinations.",
        |status, values| agent(status, values, "sightings.dropped"),
    ),
    gauge(
        "cordon_fault",
        "faults",
        &["number"],
        "How many of this fault there are now, one for each subject; docs/faults.md says what to do.",
        |status, values| {
            for fault in Fault::ALL {
                let raised = status.faults.iter().filter(|raised| raised.number == fault.number()).count();
                values.add([fault.number()], raised as f64);
            }
        },
    ),
    gauge(
        "cordon_stage_idle_seconds",
        "seconds",
        &["stage"],
        "Time since a stage of the agent last made progress.",
        |status, values| {
            for (name, stage) in &status.stages {
                if let Some(idle) = stage.idle_ms {
                    values.add([name], idle as f64 / 1e3);
                }
            }
        },
    ),
    gauge(
        "cordon_stage_period_seconds",
        "seconds",
        &["stage"],
        "Time within which a stage of the agent promises to make progress.",
        |status, values| {
            for (name, stage) in &status.stages {
                values.add([name], stage.period_ms as f64 / 1e3);
            }
        },
    ),
];

/// Counts of the kernel: the value of the label, and the name in the status.
fn kernel(status: &Status, values: &mut Values, counts: &[(&str, &str)]) {
    for (label, name) in counts {
        if let Some(count) = status.counters.get(*name) {
            values.add([label], *count as f64);
        }
    }
}

/// A count of the agent.
fn agent(status: &Status, values: &mut Values, name: &str) {
    values.only(status.count(name));
}

fn by_source(status: &Status, values: &mut Values, counts: fn(&Source) -> &std::collections::BTreeMap<String, u64>) {
    for source in &status.sources {
        for (what, count) in counts(source) {
            values.add([source.name.as_str(), what], *count as f64);
        }
    }
}

fn destinations(status: &Status) -> impl Iterator<Item = &Destination> {
    status.sightings.iter().flat_map(|sightings| &sightings.destinations)
}

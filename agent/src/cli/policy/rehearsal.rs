//! What `cordon policy verify --dry-run` prints for people.

use crate::app::Rehearsal;
use crate::cli::table::{Terminal, printable};

/// The sums, and what would have come out differently.
pub fn table(rehearsal: &Rehearsal, terminal: Terminal) -> String {
    let contacts = match rehearsal.contacts {
        Some(contacts) => format!("{contacts} contacts and executables"),
        None => "no contacts (set telemetry.contacts to keep them)".to_owned(),
    };
    let mut text = format!("since {}: {} hits and {contacts}\n", rehearsal.since, rehearsal.records);
    for (outcome, count) in &rehearsal.would {
        text.push_str(&format!("{outcome:<13}{count}\n"));
    }
    for unread in &rehearsal.unread {
        text.push_str(&format!("left out     {}\n", printable(unread)));
    }
    if rehearsal.changed == 0 {
        text.push_str("nothing would have come out differently\n");
        return text;
    }
    text.push_str(&format!("{} would have come out differently:\n", rehearsal.changed));
    let rows = rehearsal.changes.iter().map(|change| {
        vec![
            change.time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
            change.kind.clone(),
            printable(&change.value).into_owned(),
            printable(change.exe.as_deref().unwrap_or("-")).into_owned(),
            change.was.to_owned(),
            change.would.to_owned(),
            printable(change.rule.as_deref().unwrap_or("-")).into_owned(),
            change.count.to_string(),
        ]
    });
    text.push_str(&terminal.table(&["time", "what", "value", "program", "was", "would be", "rule", "times"], rows));
    text.push('\n');
    text
}

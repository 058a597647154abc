//! One record, as a table shows it or as a line of JSON.

use std::io::{self, Write};

use jiff::{Timestamp, ZonedDateTime};

use super::Format;
use crate::attribute::Finding;
use crate::attribute::finding::{Kind, Process, Verdict};
use crate::cli::table::{Cut, Terminal, Tone, fit, printable};
use crate::host;
use crate::journal::Loss;
use crate::report;

/// From this width on a record is one line.
const WIDE: usize = 150;
const TIME: usize = 19;
const VERDICT: usize = 16;

/// How records are printed.
pub(super) struct Show {
    format: Format,
    terminal: Terminal,
    /// Its zone is the one in which a table gives times.
    now: ZonedDateTime,
    /// Where it was recorded.
    host: String,
}

impl Show {
    pub(super) fn new(format: Format, terminal: Terminal, now: ZonedDateTime) -> Self {
        Self { format, terminal, now, host: host::name() }
    }

    pub(super) fn heading(&self, out: &mut impl Write) -> io::Result<()> {
        if self.format != Format::Table || self.terminal.width.is_none() {
            return Ok(());
        }
        let columns = ["TIME", "VERDICT", "WHAT", "", "PROCESS", "INDICATOR", "SOURCE", "ACTOR"].map(str::to_owned);
        self.lay_out(out, &columns, Tone::Heading)
    }

    pub(super) fn record(&self, out: &mut impl Write, finding: &Finding) -> io::Result<()> {
        let value = match self.format {
            Format::Table => return self.row(out, finding),
            Format::Json => serde_json::to_string(finding)?,
            Format::Ocsf => report::ocsf(finding).to_string(),
            Format::OcsfActivity => {
                report::ocsf_activity(finding, finding.host.as_ref().unwrap_or(&self.host)).to_string()
            }
            Format::Ecs => report::ecs(finding).to_string(),
        };
        writeln!(out, "{value}")
    }

    /// A line between the records; on stderr where stdout is for programs.
    pub(super) fn note(&self, out: &mut impl Write, text: &str) -> io::Result<()> {
        if self.format == Format::Table {
            writeln!(out, "{}", self.terminal.paint(Tone::Faint, &format!("-- {text} --")))
        } else {
            eprintln!("cordon log: {text}");
            Ok(())
        }
    }

    pub(super) fn loss(&self, out: &mut impl Write, loss: &Loss) -> io::Result<()> {
        let why = loss.reason.words();
        let (from, to) = (self.time(loss.from), self.time(loss.to));
        let when = if from == to { format!("at {from}") } else { format!("from {from} to {to}") };
        self.note(out, &format!("{} hits are not recorded {when}: {why}", loss.count))
    }

    fn time(&self, time: Timestamp) -> String {
        seconds(time, &self.now)
    }

    fn row(&self, out: &mut impl Write, finding: &Finding) -> io::Result<()> {
        let tone = match finding.verdict {
            Verdict::Blocked | Verdict::Killed => Tone::Bad,
            Verdict::Reported => Tone::Warning,
            Verdict::WouldBlock => Tone::Notice,
        };
        let columns = [
            self.time(finding.time),
            verdict(finding),
            what(finding),
            finding.destination.as_ref().and_then(|destination| destination.domain.clone()).unwrap_or_default(),
            who(finding),
            finding.indicator.value.clone(),
            finding.indicator.source.clone(),
            actors(finding),
        ];
        self.lay_out(out, &columns, tone)
    }

    /// One line where there is room, else two; whole and separated by two spaces where it is not a terminal.
    fn lay_out(&self, out: &mut impl Write, columns: &[String; 8], tone: Tone) -> io::Result<()> {
        let [time, verdict, what, domain, process, indicator, source, actor] = columns;
        let what_and_domain = format!("{what} {domain}");
        let is_heading = tone == Tone::Heading;
        let rest_tone = if is_heading { Tone::Heading } else { Tone::Plain };
        let Some(width) = self.terminal.width else {
            let columns = [time, verdict, what_and_domain.trim_end(), process, indicator, source, actor];
            let line = columns.map(printable).join("  ");
            return writeln!(out, "{}", line.trim_end());
        };
        let marked = self.terminal.paint(tone, verdict);
        let padding = " ".repeat(VERDICT.saturating_sub(verdict.chars().count()));
        let rest = width.saturating_sub(TIME + VERDICT + 4);
        if width >= WIDE {
            // Shares of what is left, in hundredths: a digest has 64 characters, an actor's name a dozen.
            let [a, b, c, d] = [28, 24, 24, 10].map(|share| (rest - 8) * share / 100);
            let line = format!(
                "{}  {}  {}  {}  {}",
                fit(what_and_domain.trim_end(), a, Cut::Middle),
                fit(process, b, Cut::End),
                fit(indicator, c, Cut::Middle),
                fit(source, d, Cut::End),
                fit(actor, rest - 8 - a - b - c - d, Cut::End)
            );
            let time = self.terminal.paint(rest_tone, time);
            let time_padding = " ".repeat(TIME.saturating_sub(columns[0].chars().count()));
            return writeln!(
                out,
                "{time}{time_padding}  {marked}{padding}  {}",
                self.terminal.paint(rest_tone, line.trim_end())
            );
        }
        let first = rest.saturating_sub(2) * 60 / 100;
        let line =
            format!("{}  {}", fit(what, first, Cut::Middle), fit(process, rest.saturating_sub(2 + first), Cut::End));
        writeln!(
            out,
            "{}  {marked}{padding}  {}",
            self.terminal.paint(rest_tone, &fit(time, TIME, Cut::End)),
            self.terminal.paint(rest_tone, line.trim_end())
        )?;
        let why: Vec<_> =
            [domain, indicator, source, actor].into_iter().filter(|column| !column.is_empty()).cloned().collect();
        let why = fit(&why.join(" · "), width.saturating_sub(2), Cut::End);
        let why_tone = if is_heading { Tone::Heading } else { Tone::Faint };
        writeln!(out, "  {}", self.terminal.paint(why_tone, why.trim_end()))
    }
}

/// `time` in the zone of `now`.
pub(super) fn seconds(time: Timestamp, now: &ZonedDateTime) -> String {
    time.to_zoned_datetime(now.time_zone().clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

pub(in crate::cli) fn verdict(finding: &Finding) -> String {
    let name = finding.verdict.name();
    let name = if finding.retro { format!("{name} retro") } else { name.to_owned() };
    if finding.count > 1 { format!("{name} ×{}", finding.count) } else { name }
}

pub(in crate::cli) fn what(finding: &Finding) -> String {
    if let Some(destination) = &finding.destination {
        let address = std::net::SocketAddr::new(destination.ip, destination.port);
        return format!("{address}/{}", destination.protocol);
    }
    let file = finding.file.as_ref().and_then(|file| file.path.as_deref().or(file.sha256.as_deref()));
    let verb = match finding.kind {
        Kind::Exec => "exec ",
        _ => "",
    };
    format!("{verb}{}", file.unwrap_or("?"))
}

pub(in crate::cli) fn process(process: &Process) -> String {
    let name = process.exe.as_deref().map(|exe| exe.rsplit('/').next().unwrap_or(exe)).or(process.comm.as_deref());
    let user =
        process.user.clone().or_else(|| process.uid.map(|uid| uid.to_string())).unwrap_or_else(|| "?".to_owned());
    let place = process.unit.as_deref().or(process.container.as_deref());
    let place = place.map(|place| format!(" {place}")).unwrap_or_default();
    format!("{}[{}] {user}{place}", name.unwrap_or("?"), process.pid)
}

/// The process and, where records of several hosts are together, its host.
fn who(finding: &Finding) -> String {
    let process = finding.process.as_ref().map_or_else(|| "?".to_owned(), process);
    finding.host.as_ref().map_or_else(|| process.clone(), |host| format!("{host} {process}"))
}

/// The actors, or else what is known about the campaign or the malware.
fn actors(finding: &Finding) -> String {
    let attribution = &finding.attribution;
    [&attribution.actors, &attribution.campaigns, &attribution.malware]
        .into_iter()
        .find(|names| !names.is_empty())
        .map(|names| names.join(", "))
        .unwrap_or_default()
}

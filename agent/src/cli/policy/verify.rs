//! `cordon policy verify` and `show`: what a host would say of a repository, and what a policy says; both without an agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Exit, oddities, warn};
use crate::app;
use crate::bundle::{self, Bundle, Checked, Expiry, Folder, Held, Verified, Web};
use crate::cli::table::{Terminal, Tone, printable};
#[cfg(feature = "bus")]
use crate::fleet;
use crate::http::{Access, Limits, Stop};
use crate::intel::source::{Age, load};
use crate::policy::document::{Rule, RuleAction};
use crate::policy::{Central, Document, Enrolment};
use crate::settings::bus::Connection;
use crate::settings::{From, Places, Settings};

/// Say whether hosts would take the policy of a repository, and why not
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    asked: Asked,
    /// Also say what it would have done to what this host's journal has
    #[arg(long)]
    dry_run: bool,
    /// How far back `--dry-run` looks
    #[arg(long, value_name = "AGE", default_value = "24h", requires = "dry_run")]
    since: Age,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// Print a policy: of a repository, of a file that is not signed, or the one that this host has taken
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    #[command(flatten)]
    asked: Asked,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// A repository, and as whom it is looked at.
#[derive(Debug, clap::Args)]
struct Asked {
    /// A directory or a URL; what the settings say without it
    #[arg(value_name = "FROM")]
    from: Option<String>,
    /// The pinned root file; what the settings say without it
    #[arg(long, value_name = "FILE")]
    pin: Option<PathBuf>,
    /// As a host of this organisation; what the settings say without it
    #[arg(long)]
    tenant: Option<String>,
    /// As a host of this group; what the settings say without it
    #[arg(long)]
    group: Option<String>,
    /// Remember in this directory what was seen, and refuse what is older, as an agent does
    #[arg(long, value_name = "DIR")]
    trust: Option<PathBuf>,
}

/// As whom a repository is looked at.
struct Look {
    from: From,
    root: Vec<u8>,
    enrolment: Enrolment,
    access: Access,
    max_bytes: u64,
    trust: Option<PathBuf>,
    bus: Option<Connection>,
}

impl Asked {
    /// What was said, and for the rest what the settings say.
    fn look(&self, places: &Places) -> anyhow::Result<Look> {
        let is_complete = self.from.is_some() && self.pin.is_some() && self.tenant.is_some() && self.group.is_some();
        let settings = if is_complete { None } else { Some(Settings::load(places)?) };
        let bus = settings.as_ref().and_then(|settings| settings.bus.clone());
        let settings = settings.and_then(|settings| settings.policy);
        let missing = "give FROM, --pin, --tenant and --group, or say so in `[policy]` of the settings";
        let root = self.pin.clone().or_else(|| settings.as_ref().map(|said| said.root.clone())).context(missing)?;
        let of_settings = settings.as_ref().map(|said| said.enrolment.clone());
        let tenant = self.tenant.clone().or_else(|| of_settings.as_ref().map(|said| said.tenant.clone()));
        let group = self.group.clone().or_else(|| of_settings.map(|said| said.group));
        let from = match &self.from {
            Some(text) if text.contains("://") => {
                let text = if text.ends_with('/') { text.clone() } else { format!("{text}/") };
                From::Url(text.parse().with_context(|| text.clone())?)
            }
            Some(path) => From::Directory(PathBuf::from(path)),
            None => settings.as_ref().map(|said| said.from.clone()).context(missing)?,
        };
        Ok(Look {
            from,
            root: std::fs::read(&root).map_err(|error| bundle::Error::file(&root, error))?,
            enrolment: Enrolment { tenant: tenant.context(missing)?, group: group.context(missing)? },
            access: settings.as_ref().map(|said| said.access.clone()).unwrap_or_default(),
            max_bytes: settings.map_or(256 << 20, |said| said.max_bytes),
            trust: self.trust.clone(),
            bus,
        })
    }
}

/// Why there is nothing to show.
struct Refusal {
    reason: &'static str,
    why: String,
}

impl std::convert::From<bundle::Error> for Refusal {
    fn from(error: bundle::Error) -> Self {
        Self { reason: error.reason(), why: error.to_string() }
    }
}

impl Look {
    /// The bundle and the policy in it; a copy of what a server hands out goes to `copy`.
    async fn open(&self, copy: &Path) -> Result<(Verified<Bundle>, Central), Refusal> {
        let held = Held {
            root: &self.root,
            group: &self.enrolment.group,
            trust: self.trust.as_deref(),
            expiry: Expiry::Refused,
            max_bytes: self.max_bytes,
            known: &[],
            before: None,
            copy: Some(copy),
        };
        let checked = match &self.from {
            From::Directory(path) => {
                let folder = Folder { path: path.clone(), max_bytes: self.max_bytes };
                bundle::open(folder, &held).await?
            }
            From::Url(url) => {
                self.access.check(url).map_err(|why| Refusal { reason: "unreachable", why })?;
                let limits = Limits { bytes: self.max_bytes, time: Duration::from_secs(300) };
                bundle::open(Web::new(url.clone(), self.access.clone(), limits, Stop::default()), &held).await?
            }
            From::Bus => from_bus(self.bus.as_ref(), &held).await?,
        };
        let Checked::New(verified) = checked else {
            return Err(Refusal { reason: "unreachable", why: "it is known already".to_owned() });
        };
        let now = Timestamp::now();
        let refused = |refused: crate::policy::Refused| Refusal { reason: refused.reason(), why: refused.to_string() };
        let central = Central::accept(&verified, &self.enrolment, None, now).map_err(refused)?;
        for source in central.sources() {
            load(source, now).map_err(|error| Refusal { reason: "invalid", why: error.to_string() })?;
        }
        Ok((verified, central))
    }
}

#[cfg(feature = "bus")]
async fn from_bus(connection: Option<&Connection>, held: &Held<'_>) -> Result<Checked, bundle::Error> {
    let unreachable = |why: String| bundle::Error::Unreachable(why);
    let connection = connection.ok_or_else(|| unreachable("the settings name no bus".to_owned()))?;
    let bus = fleet::Bus::connect(connection).await.map_err(|error| unreachable(error.to_string()))?;
    fleet::open(&bus, held).await
}

#[cfg(not(feature = "bus"))]
async fn from_bus(_: Option<&Connection>, _: &Held<'_>) -> Result<Checked, bundle::Error> {
    Err(bundle::Error::Unreachable("this build has no message bus".to_owned()))
}

/// # Errors
/// The settings are needed and cannot be read.
pub async fn run(args: &Args, places: &Places) -> anyhow::Result<Exit> {
    let look = args.asked.look(places)?;
    let copy = tempfile::tempdir()?;
    let (verified, central) = match look.open(copy.path()).await {
        Ok(opened) => opened,
        Err(refusal) => return Ok(refuse(&look, &refusal, args.json)),
    };
    let (document, bundle) = (central.document(), verified.get());
    let (found, lint) = oddities(document, Timestamp::now());
    warn(&found);
    let mut said = json!({
        "schema": 1, "valid": true, "from": look.from.to_string(), "tenant": document.tenant, "group": document.group,
        "serial": document.serial, "mode": document.mode, "rules": document.rule.len(),
        "intelligence": document.intelligence.len(), "sha256": bundle.sha256, "version": bundle.version,
        "expires": bundle.expires, "valid_until": document.valid_until, "lint": lint,
    });
    let line = format!(
        "{}: serial {} for group `{}` of `{}`, the latest until {}",
        look.from, document.serial, document.group, document.tenant, bundle.expires
    );
    let rehearsal = if args.dry_run {
        let since = Timestamp::now().checked_sub(args.since.duration())?;
        Some(app::rehearse(places, central.clone(), since)?)
    } else {
        None
    };
    if args.json {
        if let Some(rehearsal) = &rehearsal {
            said["dry_run"] = json!(rehearsal);
        }
        println!("{said}");
        return Ok(Exit::Done);
    }
    println!("{}", Terminal::stdout().paint(Tone::Good, &printable(&line)));
    if let Some(rehearsal) = rehearsal {
        print!("{}", super::rehearsal::table(&rehearsal, Terminal::stdout()));
    }
    Ok(Exit::Done)
}

fn refuse(look: &Look, refusal: &Refusal, is_json: bool) -> Exit {
    let Refusal { reason, why } = refusal;
    if is_json {
        let from = look.from.to_string();
        println!("{}", json!({ "schema": 1, "valid": false, "from": from, "reason": reason, "why": why }));
    }
    eprintln!("cordon: {}: refused: {why}", look.from);
    Exit::Invalid
}

/// # Errors
/// There is nothing to show.
pub async fn show(args: &ShowArgs, places: &Places) -> anyhow::Result<Exit> {
    let file = args.asked.from.as_ref().map(Path::new).filter(|path| path.is_file());
    let (document, signed) = match (file, &args.asked.from) {
        (Some(file), _) => {
            let text = std::fs::read_to_string(file).map_err(|error| bundle::Error::file(file, error))?;
            match Document::parse(&text) {
                Ok(document) => (document, Value::Null),
                Err(error) => {
                    eprintln!("cordon: {}: {error}", file.display());
                    return Ok(Exit::Invalid);
                }
            }
        }
        (None, Some(_)) => {
            let look = args.asked.look(places)?;
            match look.open(tempfile::tempdir()?.path()).await {
                Ok((verified, central)) => (
                    central.document().clone(),
                    json!({ "sha256": verified.get().sha256, "expires": verified.get().expires }),
                ),
                Err(refusal) => return Ok(refuse(&look, &refusal, args.json)),
            }
        }
        (None, None) => {
            let settings = Settings::load(places)?;
            let Some(policy) = settings.policy else {
                bail!("this host takes no policy: its settings have no `[policy]`")
            };
            let Some((central, accepted)) = app::taken_policy(&policy, places).await? else {
                bail!("this host has taken no policy yet");
            };
            (central.document().clone(), json!({ "sha256": central.standing().sha256, "accepted": accepted }))
        }
    };
    let (found, lint) = oddities(&document, Timestamp::now());
    if args.json {
        println!("{}", json!({ "schema": 1, "document": document, "signed": signed, "lint": lint }));
    } else {
        print!("{}", text(&document, &signed, Terminal::stdout()));
        warn(&found);
    }
    Ok(Exit::Done)
}

fn text(document: &Document, signed: &Value, terminal: Terminal) -> String {
    let mut lines = vec![
        format!("tenant       {}", document.tenant),
        format!("group        {}", document.group),
        format!("serial       {}{}", document.serial, if signed.is_null() { " (not signed)" } else { "" }),
        format!("mode         {}", document.mode.map_or("as the host's settings say", crate::policy::Mode::name)),
    ];
    let times = [("valid from", document.valid_from), ("valid until", document.valid_until)];
    lines.extend(times.into_iter().filter_map(|(name, time)| time.map(|time| format!("{name:<13}{time}"))));
    if !document.never_block.is_empty() {
        lines.push(format!("never block  {}", document.never_block.join(", ")));
    }
    for one in &document.intelligence {
        let action = json!(one.action);
        lines.push(format!("intelligence {} ({}), {}", one.name, one.file, action.as_str().unwrap_or_default()));
    }
    let mut text = lines.iter().map(|line| printable(line).into_owned() + "\n").collect::<String>();
    if !document.rule.is_empty() {
        text.push_str(&terminal.table(&["rule", "action", "which", "until", "why"], document.rule.iter().map(row)));
        text.push('\n');
    }
    text
}

fn row(rule: &Rule) -> Vec<String> {
    let which = json!(rule.which);
    let is_said = |value: &&Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
    let said = which.as_object().into_iter().flatten().filter(|(_, value)| is_said(value));
    let said: Vec<String> = said.map(|(key, value)| format!("{key} {}", words(value))).collect();
    let action = match (rule.action, rule.mode) {
        (RuleAction::Block, Some(crate::policy::Mode::Monitor)) => "block (monitor)".to_owned(),
        (action, _) => words(&json!(action)),
    };
    vec![
        printable(&rule.name).into_owned(),
        action,
        if said.is_empty() { "all".to_owned() } else { printable(&said.join("; ")).into_owned() },
        rule.until.map_or_else(|| "-".to_owned(), |until| until.to_string()),
        printable(rule.why.as_deref().unwrap_or("-")).into_owned(),
    ]
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

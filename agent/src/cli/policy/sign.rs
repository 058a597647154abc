//! `cordon policy sign` and `rollback`: a policy, and the intelligence that it names, into a repository.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;

use super::{Exit, Keys, oddities, say, warn};
use crate::bundle::{self, Lifetimes, Signed, Signing, earlier, refresh, sign};
use crate::intel::source::{Age, load};
use crate::policy::Document;

/// Sign a policy and the intelligence that it names into a directory, which any server can hand out as it is
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The policy; files that it names lie beside it
    #[arg(value_name = "FILE", required_unless_present = "refresh", conflicts_with = "refresh")]
    file: Option<PathBuf>,
    /// The repository; policies of other groups in it stay
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    times: Times,
    /// Only say again that what is there is the latest; the online key is enough for that
    #[arg(long)]
    refresh: bool,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// Sign the contents of an earlier policy again, with a serial above the latest: hosts never take a lower one
#[derive(Debug, clap::Args)]
pub struct RollbackArgs {
    /// The repository
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Whose policy
    #[arg(long)]
    group: String,
    /// The serial of the policy to go back to
    #[arg(long, value_name = "SERIAL")]
    to: u64,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    times: Times,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// How long what is signed is believed.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Times {
    /// How long the policy is believed
    #[arg(long, value_name = "AGE", default_value = "90d")]
    expires: Age,
    /// How long it is believed that it is the latest; hosts raise a fault then, and keep it in force
    #[arg(long, value_name = "AGE", default_value = "7d")]
    latest_for: Age,
}

impl Times {
    fn lifetimes(self) -> Lifetimes {
        Lifetimes { now: Timestamp::now(), policy: self.expires.duration(), online: self.latest_for.duration() }
    }
}

/// # Errors
/// A file cannot be read or written, or it cannot be signed with these keys.
pub async fn run(args: &Args) -> anyhow::Result<Exit> {
    let Some(file) = &args.file else {
        let signed = refresh(&args.keys.files(), &args.output, args.times.lifetimes()).await?;
        say(
            &json!({ "schema": 1, "repository": args.output, "version": signed.version, "expires": signed.expires }),
            args.json,
            &format!("{}: the latest until {}", args.output.display(), signed.expires),
        );
        return Ok(Exit::Done);
    };
    let text = std::fs::read_to_string(file).map_err(|error| bundle::Error::file(file, error))?;
    let beside = |name: &str| file.parent().unwrap_or(Path::new("")).join(name);
    publish(
        &Publication { shown: file, text: &text, output: &args.output, keys: &args.keys, times: args.times },
        beside,
        args.json,
    )
    .await
}

/// # Errors
/// As `sign`; or the repository has no such policy.
pub async fn rollback(args: &RollbackArgs) -> anyhow::Result<Exit> {
    let before = earlier(&args.keys.files(), &args.output, &args.group, args.to).await?;
    let text = with_serial(&before.policy, before.latest + 1);
    let stored = |name: &str| {
        let found = before.files.iter().find(|(known, _)| known == name);
        found.map_or_else(|| PathBuf::from(name), |(_, path)| path.clone())
    };
    let shown = PathBuf::from(format!("serial {} of group `{}`", args.to, args.group));
    publish(
        &Publication { shown: &shown, text: &text, output: &args.output, keys: &args.keys, times: args.times },
        stored,
        args.json,
    )
    .await
}

/// What is signed, and into what.
struct Publication<'a> {
    /// As errors call it.
    shown: &'a Path,
    text: &'a str,
    output: &'a Path,
    keys: &'a Keys,
    times: Times,
}

async fn publish(
    publication: &Publication<'_>,
    place: impl Fn(&str) -> PathBuf,
    is_json: bool,
) -> anyhow::Result<Exit> {
    let Publication { shown, text, output, keys, times } = *publication;
    let now = Timestamp::now();
    let document = match check(text, now) {
        Ok(document) => document,
        Err(why) => {
            eprintln!("cordon: {}: {why}", shown.display());
            return Ok(Exit::Invalid);
        }
    };
    let mut files = Vec::new();
    for one in &document.intelligence {
        let path = place(&one.file);
        if let Err(error) = load(&one.source(&path), now) {
            eprintln!("cordon: {}: intelligence `{}`: {}", shown.display(), one.name, error.error);
            return Ok(Exit::Invalid);
        }
        files.push((one.file.clone(), path));
    }
    let (found, lint) = oddities(&document, now);
    warn(&found);
    let signing = Signing {
        keys: &keys.files(),
        group: &document.group,
        policy: text,
        serial: document.serial,
        files: &files,
        repository: output,
        lifetimes: times.lifetimes(),
    };
    let Signed { version, expires } = sign(&signing).await?;
    let said = json!({
        "schema": 1, "repository": output, "tenant": document.tenant, "group": document.group, "serial": document.serial,
        "files": files.len(), "version": version, "expires": expires, "lint": lint,
    });
    let words = format!(
        "{}: serial {} for group `{}` of `{}`, the latest until {expires}",
        output.display(),
        document.serial,
        document.group,
        document.tenant
    );
    say(&said, is_json, &words);
    Ok(Exit::Done)
}

/// A document that hosts would take now.
fn check(text: &str, now: Timestamp) -> Result<Document, String> {
    let document = Document::parse(text).map_err(|error| error.to_string())?;
    match document.valid_until.filter(|until| *until <= now) {
        Some(until) => Err(format!("valid_until: {until} has passed, and no host would take it")),
        None => Ok(document),
    }
}

/// The document with another serial; the rest stays as it was written. `serial` stands before the first table.
fn with_serial(text: &str, serial: u64) -> String {
    let (mut done, mut lines) = (false, Vec::new());
    for line in text.lines() {
        let key = line.split('=').next().unwrap_or_default().trim();
        if !done && key == "serial" {
            done = true;
            lines.push(format!("serial = {serial}"));
        } else {
            lines.push(line.to_owned());
        }
    }
    lines.join("\n") + "\n"
}

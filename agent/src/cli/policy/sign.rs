//! `cordon policy sign` and `rollback`: a policy, and the intelligence that it names, into a repository.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Exit, Keys, oddities, say, warn};
use crate::bundle::{self, KeyFiles, Lifetimes, Signed, Signing, earlier, refresh, sign};
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
pub(in crate::cli) struct Times {
    /// How long the policy is believed
    #[arg(long, value_name = "AGE", default_value = "90d")]
    expires: Age,
    /// How long it is believed that it is the latest; hosts raise a fault then, and keep it in force
    #[arg(long, value_name = "AGE", default_value = "7d")]
    latest_for: Age,
}

impl Times {
    pub(in crate::cli) fn lifetimes(self) -> Lifetimes {
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
    let (shown, text, lifetimes) = (file, text.as_str(), args.times.lifetimes());
    let publication = Publication { shown, text, output: &args.output, keys: &args.keys.files(), lifetimes };
    told(publish(&publication, beside).await?, args.json)
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
    let (shown, text, lifetimes) = (shown.as_path(), text.as_str(), args.times.lifetimes());
    let publication = Publication { shown, text, output: &args.output, keys: &args.keys.files(), lifetimes };
    told(publish(&publication, stored).await?, args.json)
}

/// What is signed, and into what.
pub(in crate::cli) struct Publication<'a> {
    /// As errors call it.
    pub(in crate::cli) shown: &'a Path,
    pub(in crate::cli) text: &'a str,
    pub(in crate::cli) output: &'a Path,
    pub(in crate::cli) keys: &'a KeyFiles,
    pub(in crate::cli) lifetimes: Lifetimes,
}

/// What was signed, for programs and for people.
pub(in crate::cli) type Published = (Value, String);

/// Signs a policy with its intelligence; what is wrong with it is said on standard error.
pub(in crate::cli) async fn publish(
    publication: &Publication<'_>,
    place: impl Fn(&str) -> PathBuf,
) -> anyhow::Result<Result<Published, Exit>> {
    let Publication { shown, text, output, keys, lifetimes } = *publication;
    let now = lifetimes.now;
    let document = match check(text, now) {
        Ok(document) => document,
        Err(why) => {
            eprintln!("cordon: {}: {why}", shown.display());
            return Ok(Err(Exit::Invalid));
        }
    };
    let mut files = Vec::new();
    for one in &document.intelligence {
        let path = place(&one.file);
        if let Err(error) = load(&one.source(&path), now) {
            eprintln!("cordon: {}: intelligence `{}`: {}", shown.display(), one.name, error.error);
            return Ok(Err(Exit::Invalid));
        }
        files.push((one.file.clone(), path));
    }
    let (found, lint) = oddities(&document, now);
    warn(&found);
    let Document { tenant, group, serial, .. } = &document;
    let (policy, serial, files) = (text, *serial, files.as_slice());
    let signing = Signing { keys, group, policy, serial, files, repository: output, lifetimes };
    let Signed { version, expires } = sign(&signing).await?;
    let said = json!({
        "schema": 1, "repository": output, "tenant": tenant, "group": group, "serial": serial,
        "files": files.len(), "version": version, "expires": expires, "lint": lint,
    });
    let at = output.display();
    let words = format!("{at}: serial {serial} for group `{group}` of `{tenant}`, the latest until {expires}");
    Ok(Ok((said, words)))
}

fn told(published: Result<Published, Exit>, is_json: bool) -> anyhow::Result<Exit> {
    Ok(match published {
        Ok((said, words)) => {
            say(&said, is_json, &words);
            Exit::Done
        }
        Err(exit) => exit,
    })
}

/// A document that hosts would take now.
fn check(text: &str, now: Timestamp) -> Result<Document, String> {
    let document = Document::parse(text).map_err(|error| error.to_string())?;
    match document.valid_until.filter(|until| *until <= now) {
        Some(until) => Err(format!("valid_until: {until} has passed, and no host would take it")),
        None => Ok(document),
    }
}

/// The document with another serial.
fn with_serial(text: &str, serial: u64) -> String {
    with_key(text, "serial", &serial.to_string())
}

/// The document with another value for a key of its own, not of one of its tables; the rest stays as it was written.
pub(in crate::cli) fn with_key(text: &str, key: &str, value: &str) -> String {
    let line = format!("{key} = {value}");
    let (mut lines, mut is_head, mut is_done) = (Vec::new(), true, false);
    for old in text.lines() {
        is_head &= !old.trim_start().starts_with('[');
        if is_head && old.split('=').next().unwrap_or_default().trim() == key {
            lines.push(line.as_str());
            is_done = true;
        } else {
            lines.push(old);
        }
    }
    if !is_done {
        lines.insert(0, &line);
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_changed_where_it_stands_or_added() {
        let text = "serial = 1\n# serial = 9\n[[rule]]\nmode = \"monitor\"\n";
        assert_eq!(with_serial(text, 7), "serial = 7\n# serial = 9\n[[rule]]\nmode = \"monitor\"\n");
        let text = with_key(text, "mode", "\"enforce\"");
        assert_eq!(text, "mode = \"enforce\"\nserial = 1\n# serial = 9\n[[rule]]\nmode = \"monitor\"\n");
    }
}

//! `cordon policy keygen`: the keys of an organisation, and new ones in place of old ones.

use std::path::PathBuf;

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::json;

use super::{Exit, say};
use crate::bundle::{Counts, KeyFiles, OperatorKey, Role, Rotation, create, rotate};
use crate::intel::source::Age;
use crate::policy::is_name;

/// Make the keys of an organisation and the root file that its hosts pin, or replace some of them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory for the keys; with --rotate, the one that has them; with --operator, the file for the key
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Replace the keys of this role: a new root says so, and whoever trusts the old one trusts it
    #[arg(long, value_name = "ROLE")]
    rotate: Option<RoleName>,
    /// With --rotate, a key of the old root, in place of all of the directory; may be given several times
    #[arg(long = "key", value_name = "FILE", requires = "rotate")]
    key: Vec<PathBuf>,
    /// Make the key of an operator, who may block something on all hosts between two policies, and print what goes into
    /// the policy
    #[arg(long, value_name = "NAME", conflicts_with_all = ["rotate", "root_keys", "root_threshold", "policy_keys", "policy_threshold", "expires"])]
    operator: Option<String>,
    /// How many root keys there are; keep them apart, and off the network
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    root_keys: u8,
    /// How many of them must sign a new root
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    root_threshold: u8,
    /// How many keys for policies there are
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    policy_keys: u8,
    /// How many of them must sign a policy
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    policy_threshold: u8,
    /// How long the root file is believed
    #[arg(long, value_name = "AGE", default_value = "365d")]
    expires: Age,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleName {
    /// The keys that say which keys sign what.
    Root,
    /// The keys that sign policies.
    Policy,
    /// The key that says that what was signed is the latest.
    Online,
}

/// # Errors
/// There are keys already, too few to rotate others, or a file cannot be written.
pub async fn run(args: &Args) -> anyhow::Result<Exit> {
    if let Some(name) = &args.operator {
        return operator(args, name);
    }
    let expires = Timestamp::now().checked_add(args.expires.duration())?;
    let root = Counts { keys: args.root_keys, threshold: args.root_threshold };
    let policy = Counts { keys: args.policy_keys, threshold: args.policy_threshold };
    let (file, keys) = match args.rotate {
        None => create(&args.output, root, policy, expires).await?,
        Some(role) => {
            let keys = KeyFiles { directory: args.output.clone(), keys: args.key.clone() };
            let (role, counts) = match role {
                RoleName::Root => (Role::Root, Some(root)),
                RoleName::Policy => (Role::Policy, Some(policy)),
                RoleName::Online => (Role::Online, None),
            };
            rotate(&Rotation { keys: &keys, role, counts, expires }).await?
        }
    };
    let document = json!({ "schema": 1, "root": file, "keys": keys, "expires": expires });
    let listed: Vec<String> = keys.iter().map(|key| format!("  {}", key.display())).collect();
    let words = match args.rotate {
        None => format!(
            "{}: give this to every host as `policy.root`\nprivate keys:\n{}\nroot keys belong on media of their own, off this \
             machine; the online key may stay where policies are signed again every day",
            file.display(),
            listed.join("\n")
        ),
        Some(_) => format!(
            "{}: goes out with the next `cordon policy sign`; hosts need nothing new\nprivate keys:\n{}",
            file.display(),
            listed.join("\n")
        ),
    };
    say(&document, args.json, &words);
    Ok(Exit::Done)
}

fn operator(args: &Args, name: &str) -> anyhow::Result<Exit> {
    anyhow::ensure!(is_name(name), "`{name}` is no name: 1 to 64 of a-z, 0-9, `-`, `_` and `.`");
    let key = OperatorKey::create(&args.output)?.public();
    let document = json!({ "schema": 1, "operator": name, "key": key, "file": args.output });
    let words = format!("[[operator]]\nname = \"{name}\"\nkey = \"{key}\"\nlongest = \"24h\"");
    say(&document, args.json, &words);
    Ok(Exit::Done)
}

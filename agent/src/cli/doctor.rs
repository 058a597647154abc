//! `cordon doctor`: what this kernel allows, why not more, and what would mend it. Needs no running agent.

use std::io::{self, Write};

use agent_common::wire::Hook;
use serde::Serialize;

use super::Exit;
use super::table::{Terminal, Tone};
use crate::attribute::hook_name;
use crate::kernel::probe::{Capability, ExecPath, Facts, Plan, State, advise, plan, probe};

/// What this kernel allows: available, fallback or impossible here, why, and the fix.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// One JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    kernel: &'a str,
    /// Whether anything can be enforced.
    can_enforce: bool,
    /// The network hooks that will be used.
    network: Vec<&'static str>,
    /// How execs will be judged.
    exec: ExecPath,
    capabilities: &'a [Capability],
}

/// Probes the kernel and prints. [`Exit::NotPossible`] when nothing can be enforced here.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let facts = probe();
    let plan = plan(&facts);
    let capabilities = advise(&facts, &plan);
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &document(&facts, &plan, &capabilities))?;
        writeln!(out)?;
    } else {
        out.write_all(page(&Terminal::stdout(), &facts, &plan, &capabilities).as_bytes())?;
    }
    Ok(if plan.can_enforce() { Exit::Done } else { Exit::NotPossible })
}

fn document<'a>(facts: &'a Facts, plan: &Plan, capabilities: &'a [Capability]) -> Document<'a> {
    Document {
        schema: 1,
        kernel: &facts.kernel,
        can_enforce: plan.can_enforce(),
        network: plan.network.iter().map(|hook| hook_name(*hook)).collect(),
        exec: plan.exec,
        capabilities,
    }
}

const fn state_name(state: State) -> &'static str {
    match state {
        State::Available => "available",
        State::Fallback => "fallback",
        State::Impossible => "impossible",
    }
}

fn page(terminal: &Terminal, facts: &Facts, plan: &Plan, capabilities: &[Capability]) -> String {
    let rows = capabilities.iter().map(|line| {
        vec![
            line.capability.to_owned(),
            state_name(line.state).to_owned(),
            line.why.clone(),
            line.fix.clone().unwrap_or_default(),
        ]
    });
    let mut text = format!("Linux {}\n\n", facts.kernel);
    text.push_str(&terminal.table(&["CAPABILITY", "HERE", "WHY", "FIX"], rows));
    let all = [Hook::Connect4, Hook::Connect6, Hook::Sendmsg4, Hook::Sendmsg6];
    let network = match plan.network.len() {
        0 => terminal.paint(Tone::Bad, "nothing is judged"),
        count if count == all.len() => terminal.paint(Tone::Good, "every connect and datagram is judged"),
        _ => terminal.paint(Tone::Warning, "only a part is judged, see above"),
    };
    let (tone, exec) = exec_words(plan.exec);
    text.push_str(&format!("\nnetwork  {network}\nexec     {}\n", terminal.paint(tone, exec)));
    if !plan.can_enforce() {
        let advice = "Nothing can be enforced here. If this was not run as root: sudo cordon doctor\n";
        text.push_str(&terminal.paint(Tone::Bad, advice));
    }
    text
}

/// How execs are judged, for people.
pub const fn exec_words(exec: ExecPath) -> (Tone, &'static str) {
    match exec {
        ExecPath::LsmIma => (Tone::Good, "denied in the kernel, which hashes unknown files itself"),
        ExecPath::LsmWithGuard => (Tone::Good, "denied in the kernel; the exec guard hashes unknown files"),
        ExecPath::Lsm => (Tone::Warning, "denied in the kernel; a file that nothing has hashed yet passes once"),
        ExecPath::KillWithGuard => {
            (Tone::Good, "denied by the exec guard, which hashes; killed in the kernel without it")
        }
        ExecPath::Kill => (Tone::Warning, "killed in the kernel; a file that nothing has hashed yet passes once"),
        ExecPath::Guard => (Tone::Warning, "denied by the exec guard, only while the daemon runs"),
        ExecPath::None => (Tone::Bad, "nothing is judged"),
    }
}

#[cfg(test)]
mod tests;

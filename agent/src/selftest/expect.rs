//! What the hooks in force should make of a technique (pure).

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::technique::{Act, Seen, Technique};
use crate::kernel::probe::ExecPath;

/// What should become of a technique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Stopped and recorded.
    Blocked,
    /// It gets through, and why.
    Missed(&'static str),
}

impl Serialize for Expected {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Blocked => "blocked",
            Self::Missed(_) => "missed",
        })
    }
}

/// What judges, as `cordon status` says; by default nothing does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    hooks: BTreeSet<String>,
    exec: ExecPath,
}

impl Default for InForce {
    fn default() -> Self {
        Self { hooks: BTreeSet::new(), exec: ExecPath::None }
    }
}

impl InForce {
    /// From the answer of the agent under test; `None` if it has not that form.
    #[must_use]
    pub fn of_status(status: &Value) -> Option<Self> {
        let hooks = status.get("hooks")?.as_array()?.iter();
        let attached = hooks.filter(|hook| hook.get("state").and_then(Value::as_str) == Some("attached"));
        let names = attached.filter_map(|hook| hook.get("hook")?.as_str().map(str::to_owned));
        Some(Self { hooks: names.collect(), exec: serde_json::from_value(status.get("exec")?.clone()).ok()? })
    }

    fn has(&self, hook: &str) -> bool {
        self.hooks.contains(hook)
    }

    /// What should become of `technique`.
    #[must_use]
    pub fn expect(&self, technique: &Technique) -> Expected {
        match technique.act {
            Act::Network { by, otherwise, .. } | Act::Name { by, otherwise, .. } => {
                if by.iter().any(|hook| self.has(hook)) { Expected::Blocked } else { Expected::Missed(otherwise) }
            }
            Act::Exec { seen, .. } => self.expect_exec(seen),
        }
    }

    fn expect_exec(&self, seen: Seen) -> Expected {
        const UNKNOWN: &str = "nothing here hashes this file before it runs";
        let guarded = matches!(self.exec, ExecPath::LsmWithGuard | ExecPath::KillWithGuard | ExecPath::Guard);
        match (seen, self.exec) {
            (Seen::Never(why), _) => Expected::Missed(why),
            (Seen::Mapped, _) if self.has("lsm_mmap_file") => Expected::Blocked,
            (Seen::Mapped, _) => Expected::Missed("no hook here sees what is mapped as code"),
            (_, ExecPath::None) => Expected::Missed("nothing here judges execs"),
            (_, ExecPath::LsmIma) => Expected::Blocked,
            (Seen::Opened, _) if guarded => Expected::Blocked,
            (Seen::Opened | Seen::InKernelOnly, _) => Expected::Missed(UNKNOWN),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::selftest::technique::all;

    fn in_force(hooks: &[&str], exec: &str) -> InForce {
        let hooks: Vec<Value> = hooks.iter().map(|hook| json!({"hook": hook, "state": "attached"})).collect();
        InForce::of_status(&json!({"hooks": hooks, "exec": exec})).unwrap()
    }

    #[test]
    fn only_an_attached_hook_is_relied_on() {
        let status = json!({"hooks": [{"hook": "cgroup_connect4", "state": "failed"}], "exec": "none"});
        let nothing = InForce::of_status(&status).unwrap();
        let something = in_force(&["cgroup_connect4"], "lsm_ima");
        let connect = all().iter().find(|technique| technique.name == "tcp_connect").unwrap();
        assert!(matches!(nothing.expect(connect), Expected::Missed(_)));
        assert_eq!(something.expect(connect), Expected::Blocked);
    }

    #[test]
    fn the_guard_stops_what_is_opened_and_only_the_kernel_the_rest() {
        let find = |name: &str| all().iter().find(|technique| technique.name == name).unwrap();
        let (guard, ima) = (in_force(&[], "kill_with_guard"), in_force(&[], "lsm_ima"));
        assert_eq!(guard.expect(find("exec")), Expected::Blocked);
        assert!(matches!(guard.expect(find("memfd")), Expected::Missed(_)));
        assert_eq!(ima.expect(find("memfd")), Expected::Blocked);
        assert!(matches!(in_force(&[], "none").expect(find("exec")), Expected::Missed(_)));
    }
}

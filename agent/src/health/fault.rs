//! The register of faults: each has a number that never changes its meaning, so that a runbook can name it.
//!
//! docs/faults.md is the same register for people; a test holds the two together (`CORDON_BLESS=1` rewrites it).

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $number:literal {
        title: $title:literal, cause: $cause:literal, effect: $effect:literal, fix: $fix:literal $(,)?
    })+) => {
        /// Something that is wrong and lasts until it is put right.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[$doc])* $name,)+
        }

        impl Fault {
            /// Every fault, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// `C` and three digits; never used again for anything else.
            #[must_use]
            pub const fn number(self) -> &'static str {
                match self { $(Self::$name => $number,)+ }
            }

            /// The fault in a few words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }

            /// What usually causes it.
            #[must_use]
            pub const fn cause(self) -> &'static str {
                match self { $(Self::$name => $cause,)+ }
            }

            /// What is not enforced, or not recorded, while it lasts.
            #[must_use]
            pub const fn effect(self) -> &'static str {
                match self { $(Self::$name => $effect,)+ }
            }

            /// What to do.
            #[must_use]
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$name => $fix,)+ }
            }
        }
    };
}

faults! {
    /// The journal cannot be written.
    JournalWriteFailed = "C001" {
        title: "journal cannot be written",
        cause: "An input/output error, a read-only file system, or wrong permissions on the journal directory.",
        effect: "Blocking goes on. Hits of this time are counted as lost and are not in `cordon log`.",
        fix: "Make the journal directory writable for the agent; the detail names the path and the error.",
    }
    /// The disk is full, and there is no older segment left to give up.
    JournalDiskFull = "C002" {
        title: "journal disk full",
        cause: "The file system of the journal has no space left, even after all older segments were deleted.",
        effect: "Blocking goes on. Hits of this time are counted as lost and are not in `cordon log`.",
        fix: "Free space on the file system that the detail names; the journal goes on by itself.",
    }
    /// A segment cannot be read as what it should be.
    JournalSegmentDamaged = "C003" {
        title: "journal segment damaged",
        cause: "A file of the journal is torn or was changed from outside: power loss, a failing disk, a copy cut short.",
        effect: "The records of that file are missing from `cordon log`. New records go to a new file.",
        fix: "The file is set aside as `damaged-…` and never deleted; try `sqlite3 FILE .recover`, then remove it.",
    }
    /// Records came faster than they could be written.
    JournalOverrun = "C004" {
        title: "journal overrun",
        cause: "Hits came faster than the disk takes them for longer than the queue is deep.",
        effect: "Blocking goes on. Hits beyond the queue are counted as lost and are not in `cordon log`.",
        fix: "Use a faster disk, or find what makes so many distinct hits with `cordon log`.",
    }
    /// The JSON-lines mirror cannot be written.
    JournalMirrorFailed = "C005" {
        title: "journal mirror cannot be written",
        cause: "The directory of the mirror file is missing, read-only or full.",
        effect: "Records are in `cordon log` but not in the mirror file, so a log shipper does not see them.",
        fix: "Make the mirror's directory writable; the detail names the path and the error.",
    }
    /// The journal is shorter than the agent left it.
    JournalShortened = "C006" {
        title: "newest records of the journal removed",
        cause: "Somebody removed the newest records or segments of the journal, or put an older copy in its place.",
        effect: "What was removed is missing from `cordon log`. New records go to a new segment.",
        fix: "Find out who did it; `cordon log --verify` names the place. `cordon reload` clears this.",
    }
    /// The file of contacts cannot be written.
    ContactsNotKept = "C007" {
        title: "contacts not kept",
        cause: "The file `contacts.sqlite` in the journal's directory cannot be read or written, or the disk is full.",
        effect: "Blocking goes on. What this host meets meanwhile is missing when intelligence that arrives later is compared with it.",
        fix: "Make room, or the file readable and writable for the agent; the detail names the error. If it is damaged, remove it.",
    }
    /// Hits cannot be handed on to journald.
    JournaldFailed = "C009" {
        title: "journald takes no hits",
        cause: "`journal.journald` is set, and journald does not listen, or its socket may not be reached.",
        effect: "Records are in `cordon log` but not in `journalctl`, which gets them once journald takes them again.",
        fix: "Start systemd-journald, or set `journal.journald = false`; the detail names the socket and the error.",
    }
    /// A source cannot be read.
    SourceUnreadable = "C010" {
        title: "intelligence source unreadable",
        cause: "The source's file or directory is missing or not readable, or its server does not answer.",
        effect: "What was last loaded from this source stays in force and grows old; before a first load nothing of it is enforced.",
        fix: "Put the source back in reach; the detail names it. It is read again by itself.",
    }
    /// A source holds something that is not valid.
    SourceInvalid = "C011" {
        title: "intelligence source invalid",
        cause: "A file is broken, of no known format, or too large.",
        effect: "What was last loaded from this source stays in force; nothing of the new file is.",
        fix: "Run `cordon intel check PATH`, which names the line, and correct or remove the file.",
    }
    /// A compiled generation was refused or could not be published.
    GenerationRefused = "C012" {
        title: "new generation not published",
        cause: "The indicators do not fit the limits of the tables, or the kernel had no memory for them.",
        effect: "The last good generation stays in force.",
        fix: "The detail names the limit; load fewer indicators or give the machine more memory.",
    }
    /// The copy of a source's last good set cannot be made or read.
    SourceNotKept = "C013" {
        title: "last good intelligence not kept",
        cause: "The agent's state directory is read-only, full or damaged.",
        effect: "Nothing is missing now; a source that breaks while the agent is down is not in force after its start.",
        fix: "Make the state directory writable for the agent; the detail names the path and the error.",
    }
    /// A server does not give what a source is to be fetched from it.
    SourceNotFetched = "C014" {
        title: "intelligence source not fetched",
        cause: "The server does not answer, refuses the account, or sends what cannot be read; the detail says which.",
        effect: "What was last fetched from this source stays in force and grows old; before a first fetch nothing of it is enforced.",
        fix: "Mend what the detail names; it is tried again by itself, and at once by `cordon intel refresh NAME`.",
    }
    /// A source was not fetched for longer than its `stale_after`.
    SourceStale = "C015" {
        title: "intelligence source stale",
        cause: "No fetch of this source has succeeded for longer than its `stale_after` allows.",
        effect: "What it lists is reported and no longer blocked, until a fetch succeeds.",
        fix: "See C014 for why it is not fetched, or set `stale_after` longer.",
    }
    /// A destination does not take the sightings that are due to it.
    SightingsNotDelivered = "C016" {
        title: "sightings not delivered",
        cause: "The destination does not answer, refuses the account, or will not take an object; the detail says which.",
        effect: "Blocking goes on. The sightings wait in the spool, which is bounded; others are not told of them yet.",
        fix: "Mend what the detail names; they are sent then by themselves.",
    }
    /// The spool of sightings cannot be written, or the journal not be read.
    SightingsNotKept = "C017" {
        title: "sightings not kept",
        cause: "The state directory is full or not writable, the spool is damaged, or the journal cannot be read.",
        effect: "Blocking goes on. Others are not told of new hits while it lasts; the hits are in the journal.",
        fix: "Mend what the detail names; it goes on from where it stopped.",
    }
    /// The provenance of a generation cannot be kept or used.
    GenerationNotKept = "C018" {
        title: "provenance of a generation not kept",
        cause: "The agent's state directory is full, not writable or damaged, or the agent before this one kept no such file.",
        effect: "Blocking goes on. Hits of the generation that the detail names may be recorded as unknown after a restart; the agent needs more memory.",
        fix: "Mend what the detail names; the next generation is kept again by itself.",
    }
    /// Metrics cannot be served where the settings say.
    MetricsNotServed = "C019" {
        title: "metrics not served",
        cause: "The address or the socket that `metrics.listen` names cannot be listened on: it is taken, or its directory is missing.",
        effect: "Blocking and the journal go on. Prometheus sees this host as down.",
        fix: "Mend what the detail names; it is tried again by itself.",
    }
    /// New settings were not accepted.
    SettingsRefused = "C020" {
        title: "settings refused on reload",
        cause: "The settings file has an error, or others than root can write it.",
        effect: "The settings from before stay in force.",
        fix: "Correct what the detail names, then reload.",
    }
    /// A new policy was not accepted.
    PolicyRefused = "C021" {
        title: "policy refused",
        cause: "The policy is not signed by a trusted key, is older than the one in force, is for another host, or cannot be applied whole; the detail says which.",
        effect: "The policy from before stays in force.",
        fix: "Run `cordon policy verify` on it and publish a correct one with a higher serial.",
    }
    /// The policy in force is no longer known to be the latest.
    PolicyStale = "C022" {
        title: "policy stale",
        cause: "Nobody has signed for longer than is allowed that the policy in force is the latest, its `valid_until` has passed, or its lease is over; the detail says which. Somebody may be holding back a newer one.",
        effect: "The policy stays in force as it is; with `policy.after_lease = \"report\"` what it blocks is only reported once the lease is over.",
        fix: "Sign the policy again (`cordon policy sign --refresh`, or a new one), or put its repository back in reach; it is looked for by itself.",
    }
    /// The repository of policies gives none.
    PolicyNotFetched = "C023" {
        title: "policy not fetched",
        cause: "The directory is missing, the server does not answer or refuses the account, or the repository is being written; the detail says which.",
        effect: "The policy from before stays in force; before the first one the host's own settings are all that is.",
        fix: "Mend what the detail names; it is tried again by itself, and at once by `cordon reload`.",
    }
    /// The policy in force cannot be kept, or what was kept cannot be used.
    PolicyNotKept = "C024" {
        title: "policy not kept",
        cause: "The agent's state directory is read-only, full or damaged, or the root file of `policy.root` cannot be read or leads to other keys than those that signed what is kept.",
        effect: "A new policy is not taken, because it could be rolled back after a restart; one that was kept and cannot be used is not in force until it is fetched again.",
        fix: "Mend what the detail names; the policy is fetched again by itself.",
    }
    /// The message bus cannot be reached, or refuses what the agent needs there.
    BusNotReached = "C025" {
        title: "bus not reached",
        cause: "The servers of `bus.servers` do not answer or do not let this host in, or its account lacks a permission or a stream.",
        effect: "The policy in force stays in force. New ones and orders are not heard of, and records wait in the journal until they can be sent.",
        fix: "The detail names the server and the error; docs/fleet.md has the permissions of a host. It is tried again by itself.",
    }
    /// Records that were to be sent are gone from the journal.
    FindingsNotSent = "C026" {
        title: "findings not sent",
        cause: "The bus was away for longer than the journal keeps records, or the place cannot be kept up to which they were sent.",
        effect: "The organisation does not learn of the hits in between. They were blocked or reported here all the same.",
        fix: "Give the journal more room (`journal.total_bytes`), or make the state directory writable; `cordon reload` clears the fault.",
    }
    /// An order was not obeyed.
    OrderRefused = "C027" {
        title: "order refused",
        cause: "An order on the bus is not signed by an operator whom the policy names, goes beyond what that operator may, or is another organisation's.",
        effect: "It is not obeyed; everything else is.",
        fix: "Find out who put it there: the detail names the order. It is forgotten once it is off the bus.",
    }
    /// A hook is not attached.
    HookMissing = "C030" {
        title: "hook missing",
        cause: "The kernel lacks what the hook needs, or refused to attach it.",
        effect: "What this hook sees is neither blocked nor reported.",
        fix: "Run `cordon doctor`: it says what this kernel lacks and what would bring it.",
    }
    /// The ring of hits overflowed.
    RingLostHits = "C031" {
        title: "records of hits lost in the kernel",
        cause: "Hits came faster than the agent took them out of the ring.",
        effect: "Blocking goes on and the hit counters are right; the records of these hits are missing from `cordon log`.",
        fix: "Look for a flood in `cordon log`; give the agent more CPU if it is starved.",
    }
    /// An entry's generation or number is not known.
    UnknownIndicator = "C032" {
        title: "hit of an unknown indicator",
        cause: "The kernel reported an entry of a generation whose provenance is no longer there.",
        effect: "The hit was enforced and counted; its record cannot say which indicator it was.",
        fix: "Restart the agent so that it publishes a generation of its own; report it if it comes back.",
    }
    /// Somebody else changed what the agent put into the kernel.
    Tampered = "C033" {
        title: "enforcement was tampered with",
        cause: "Somebody with root's powers removed, detached or replaced a link, the configuration or the image of the agent.",
        effect: "Until the agent had put it back, within about two seconds, what the detail names did not block.",
        fix: "Find out who did it: the time is in the log. `cordon off` is the way to switch Cordon off; `cordon reload` clears this.",
    }
    /// Open flows cannot be looked at or closed.
    FlowsNotClosed = "C034" {
        title: "open flows not closed",
        cause: "The kernel lacks CONFIG_INET_DIAG_DESTROY or a part of CONFIG_INET_DIAG, the agent may not enter a network namespace, or another UDP socket has the same addresses.",
        effect: "A flow that was open when its address became an indicator stays open, and one that cannot be seen is not reported before it sends. What it sends is dropped at `cgroup_egress`, as far as that is attached.",
        fix: "Run `cordon doctor`: its line `sock_destroy` says what this kernel lacks. Other network namespaces take CAP_SYS_ADMIN, which cordon.service has.",
    }
    /// Self-protection refused something to somebody.
    AttemptRefused = "C035" {
        title: "attempt on the agent refused",
        cause: "Somebody tried to remove or open what is the agent's in the kernel, or to end, trace or limit the agent; the detail names the process.",
        effect: "Nothing was changed: self-protection refused it.",
        fix: "Find out who did it; the log has every one. `cordon off` is the way to switch Cordon off; `cordon reload` clears this.",
    }
    /// The guard of execs does not answer in time.
    ExecGuardStalled = "C040" {
        title: "exec guard stalled",
        cause: "The fanotify guard did not take its events for longer than it may.",
        effect: "Execs of files whose digest is not yet known are let through until it goes on.",
        fix: "Give the agent more CPU, or use a kernel where it can decide without the guard (`cordon doctor`).",
    }
    /// An exec was let through because its digest took too long.
    ExecDeadlinePassed = "C041" {
        title: "exec let through unchecked",
        cause: "Hashing a file took longer than an exec may be held up: a large file or a slow disk.",
        effect: "The program ran before it was checked; it is checked afterwards and killed if it is an indicator.",
        fix: "None needed when rare. Keep large programs on a faster disk; the digest is then remembered.",
    }
    /// A file is too large to be hashed.
    DigestTooLarge = "C042" {
        title: "program too large to check",
        cause: "The program is larger than the limit up to which files are hashed.",
        effect: "This program is not compared with file indicators.",
        fix: "Raise the limit in the settings if the file is trusted to be hashed in time.",
    }
    /// It is not known what packages installed.
    OwnFilesUnknown = "C043" {
        title: "installed programs not known",
        cause: "dpkg's records cannot be read, or the agent's state directory cannot be written.",
        effect: "A source that lists a program of this host by mistake is not kept from blocking it.",
        fix: "Make what the detail names readable and writable for the agent.",
    }
    /// A stage does not tick.
    StageStalled = "C050" {
        title: "stage stalled",
        cause: "A part of the agent has made no progress for longer than it promises.",
        effect: "The kernel goes on blocking; what this stage does (the subject names it) is not done.",
        fix: "systemd restarts the agent by its watchdog; report it with the log if it comes back.",
    }
    /// The clock is not what it was.
    ClockOffset = "C060" {
        title: "clock jumped",
        cause: "The wall clock was set forward or back, so its offset to the time since boot changed.",
        effect: "Records near the jump may carry a time that is off by as much; expiry follows the new clock.",
        fix: "None needed after a correction. Keep the clock synchronised.",
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.number(), self.title())
    }
}

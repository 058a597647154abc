//! What comes from outside: records from the journal, answers from the agent. Each is waited for in a thread of its own, so that an
//! agent that is busy never holds up the screen.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::control::{self, Answer, Request};
use crate::journal::{Follow, Followed};

/// How often the journal is looked at.
const JOURNAL: Duration = Duration::from_millis(250);
/// How often the agent is asked how it is.
const STATUS: Duration = Duration::from_secs(2);

/// What was heard.
pub(super) enum News {
    /// New records and losses.
    Journal(Vec<Followed>),
    /// The agent's status, or why there is none.
    Status(Result<Value, String>),
    /// What came of a request other than the status.
    Answer(Request, Result<Value, String>),
    /// The journal cannot be read for now.
    Unread(String),
}

/// The threads' ends here.
pub(super) struct Feed {
    news: Receiver<News>,
    requests: Sender<Request>,
}

impl Feed {
    /// Starts listening; the threads end with the program.
    ///
    /// # Errors
    /// A thread cannot be made.
    pub(super) fn start(socket: PathBuf, follow: Follow) -> io::Result<Self> {
        let (tell, news) = mpsc::channel();
        let (requests, asked) = mpsc::channel();
        let told = tell.clone();
        thread::Builder::new().name("journal".to_owned()).spawn(move || read(follow, &told))?;
        thread::Builder::new().name("agent".to_owned()).spawn(move || converse(&socket, &asked, &tell))?;
        Ok(Self { news, requests })
    }

    /// Hands a request to the agent; what comes of it is heard later.
    pub(super) fn ask(&self, request: Request) {
        // The thread ends only with its channel, which [`Feed::next`] then says.
        drop(self.requests.send(request));
    }

    /// What was heard next, without waiting.
    pub(super) fn next(&self) -> Result<News, TryRecvError> {
        self.news.try_recv()
    }
}

fn read(mut follow: Follow, tell: &Sender<News>) {
    loop {
        let news = match follow.poll_some() {
            Ok(followed) if followed.is_empty() => None,
            Ok(followed) => Some(News::Journal(followed)),
            Err(error) => Some(News::Unread(error.to_string())),
        };
        let is_behind = matches!(news, Some(News::Journal(_)));
        if news.is_some_and(|news| tell.send(news).is_err()) {
            return;
        }
        if !is_behind {
            thread::sleep(JOURNAL);
        }
    }
}

fn converse(socket: &std::path::Path, asked: &Receiver<Request>, tell: &Sender<News>) {
    loop {
        let news = match asked.recv_timeout(STATUS) {
            Ok(request) => News::Answer(request.clone(), answer(socket, &request)),
            Err(RecvTimeoutError::Timeout) => News::Status(answer(socket, &Request::Status)),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if tell.send(news).is_err() {
            return;
        }
    }
}

fn answer(socket: &std::path::Path, request: &Request) -> Result<Value, String> {
    match control::ask(socket, request) {
        Ok(Answer::Done(document)) => Ok(document),
        Ok(Answer::Failed { message, .. }) => Err(message),
        Err(error) => Err(error.to_string()),
    }
}

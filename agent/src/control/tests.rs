use std::sync::Arc;

use serde_json::json;

use super::*;

struct Echo;

impl Handler for Echo {
    async fn handle(&self, request: Request) -> Answer {
        match request {
            Request::Explain { value } => Answer::Done(json!({ "value": value })),
            _ => Answer::failed(Failure::Invalid, "no"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_comes_back_and_the_socket_goes_with_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/cordon.sock");
    assert!(matches!(ask(&path, &Request::Status), Err(Error::NotRunning(_))));

    let server = Server::bind(&path, None).unwrap();
    let serving = tokio::spawn(server.serve(Arc::new(Echo)));
    let socket = path.clone();
    let answers = tokio::task::spawn_blocking(move || {
        (ask(&socket, &Request::Explain { value: "192.0.2.1".into() }).unwrap(), ask(&socket, &Request::On).unwrap())
    });
    let (explained, refused) = answers.await.unwrap();
    assert_eq!(explained, Answer::Done(json!({ "value": "192.0.2.1" })));
    assert_eq!(refused, Answer::failed(Failure::Invalid, "no"));
    assert!(Server::bind(&path, None).is_err(), "a second agent on the same socket must be refused");

    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    assert!(!path.exists());
}

#[test]
fn only_reading_is_open_to_the_group() {
    assert!(Request::Status.is_read_only());
    assert!(!Request::On.is_read_only());
    assert!(!Request::Off { seconds: 1, reason: String::new() }.is_read_only());
    assert!(!Request::RemoveRule { value: String::new() }.is_read_only());
}

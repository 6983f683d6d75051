//! Cancel requests.

use std::time::Duration;

use pgcordon::pool::upstream::Upstream;
use pgcordon::tls::{Connector, Mode};

use crate::scratch::Scratch;
use crate::{ask, tcp, unix};

#[tokio::test]
async fn a_cancel_request_hits_the_running_statement() {
    let scratch = Scratch::shared();
    let mut over_tls = tcp("localhost", scratch.port);
    over_tls.tls = Connector::new(Mode::VerifyFull, Some(&scratch.root_certificate)).unwrap();
    over_tls.passwords.insert("scram_role", "secret");
    for (target, role) in [(unix(&scratch), "trust_role"), (over_tls, "scram_role")] {
        let upstream = Upstream::new(target);
        let mut connection = upstream.connect("postgres", role).await.unwrap();
        let (pid, secret) = (connection.pid, connection.secret.clone());
        let sleeping = ask(&mut connection, "select pg_sleep(30)");
        let cancelling = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            upstream.cancel(pid, &[0, 0, 0, 0]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            upstream.cancel(pid, &secret).await.unwrap();
        };
        let (outcome, ()) = tokio::join!(sleeping, cancelling);
        assert_eq!(outcome, Err("57014".to_owned()));
        assert_eq!(ask(&mut connection, "select 1").await.unwrap(), ["1"]);
    }
}

#[tokio::test]
async fn a_cancel_request_that_is_followed_never_hits_the_next_statement() {
    let scratch = Scratch::shared();
    let upstream = std::sync::Arc::new(Upstream::new(unix(&scratch)));
    let mut connection = upstream.connect("postgres", "trust_role").await.unwrap();
    let mut hits = 0;
    for round in 1..=500 {
        let (theirs, pid, secret) = (upstream.clone(), connection.pid, connection.secret.clone());
        let cancel = tokio::spawn(async move { theirs.cancel(pid, &secret).await });
        hits += u32::from(ask(&mut connection, "select pg_sleep(0.0005)").await.is_err());
        cancel.await.unwrap().unwrap();
        let next = ask(&mut connection, "select count(*) from generate_series(1, 2000)").await;
        assert_eq!(next, Ok(vec!["2000".to_owned()]), "round {round}");
    }
    assert!(hits > 0, "the race was none");
}

//! What operators change is in the trail, in the same transaction.

use crate::scratch::Database;

async fn control_events(database: &Database) -> Vec<String> {
    let sql = "select event_type || ' ' || severity || ' ' || coalesce(key_id, '-') || ' ' || (workspace_id is not null) || ' ' \
               || coalesce(detail ->> 'name', '-') || ' ' || (client_user like '%@%') from cordon.audit_event where stream = 'control' order by seq";
    database.admin().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn every_change_by_a_command_is_recorded_and_a_failed_one_isnt() {
    let database = Database::migrated().await;
    let run = |arguments: &[&str]| {
        let (code, said) = database.pgcordon(arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
        said
    };
    run(&["workspace", "create", "acme"]);
    let key = run(&["key", "create", "--workspace", "acme", "--name", "ci", "--json"]);
    let key: serde_json::Value = serde_json::from_str(&key).unwrap();
    let (key_id, secret) = (key["key_id"].as_str().unwrap(), key["secret"].as_str().unwrap());
    run(&["key", "rotate", key_id]);
    run(&["key", "revoke", key_id]);
    run(&["key", "revoke", key_id]);
    run(&["workspace", "suspend", "acme"]);
    run(&["workspace", "resume", "acme"]);
    run(&["workspace", "delete", "acme"]);
    for failing in [&["workspace", "delete", "acme"][..], &["key", "rotate", key_id], &["key", "revoke", "pk_none"]] {
        assert_eq!(database.pgcordon(failing).0, 1, "{failing:?}");
    }
    let expected = [
        "WORKSPACE_CREATED low - true acme true".to_owned(),
        format!("API_KEY_CREATED low {key_id} true ci true"),
        format!("API_KEY_ROTATED low {key_id} true - true"),
        format!("API_KEY_REVOKED medium {key_id} true - true"),
        "WORKSPACE_SUSPENDED medium - true acme true".to_owned(),
        "WORKSPACE_RESUMED low - true acme true".to_owned(),
        "WORKSPACE_DELETED medium - true acme true".to_owned(),
    ];
    assert_eq!(control_events(&database).await, expected);
    let everything = "select string_agg(e::text, ' ') from cordon.audit_event e";
    let everything: String = database.admin().await.query_one(everything, &[]).await.unwrap().get(0);
    assert!(!everything.contains(secret) && !everything.contains("SCRAM"), "no secret is in the trail");
    database.is_whole();
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_at_the_same_time_make_one_chain() {
    let database = std::sync::Arc::new(Database::migrated().await);
    let mut commands = Vec::new();
    for number in 0..12 {
        let database = database.clone();
        commands.push(tokio::task::spawn_blocking(move || {
            database.pgcordon(&["workspace", "create", &format!("w{number}")])
        }));
    }
    for command in commands {
        let (code, said) = command.await.unwrap();
        assert_eq!(code, 0, "{said}");
    }
    assert_eq!(control_events(&database).await.len(), 12);
    database.is_whole();
}

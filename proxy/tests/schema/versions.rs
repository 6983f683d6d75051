//! The control data is loaded when it is another version, and only then.

use pgcordon::control::{RoleNames, store};

use crate::scratch::{A, Database};

#[tokio::test]
async fn every_change_of_what_a_snapshot_is_made_of_is_another_version_and_nothing_else_is() {
    let database = Database::protected().await;
    let (admin, mut client) = (database.admin().await, database.connect("pgcordon_control").await);
    let roles = RoleNames::default();
    let (_, mut version) = store::load(&mut client, &roles).await.unwrap();
    let verifier = "'SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy'";
    let changes = [
        format!("insert into cordon.workspace (id, name) values ('{A}', 'a')"),
        "update cordon.workspace set status = 'suspended'".to_owned(),
        "update cordon.workspace set status = 'suspended'".to_owned(),
        "update cordon.workspace set status = 'active'".to_owned(),
        format!("insert into cordon.api_key (key_id, workspace_id, kind, verifier) values ('k', '{A}', 'workspace', {verifier})"),
        "update cordon.api_key set revoked_at = now()".to_owned(),
        "insert into cordon.resource (name) values ('segments')".to_owned(),
        "insert into cordon.meter (resource_id, relation, count_sql) values (1, 'public.note', 'SELECT 0')".to_owned(),
        format!("insert into cordon.quota values ('{A}', 1, 5)"),
        "update cordon.quota set \"limit\" = 6".to_owned(),
        "insert into cordon.signing_key (secret, inner_pad, outer_pad) select secret, inner_pad, outer_pad from cordon.signing_key".to_owned(),
        "update cordon.signing_key set retired_at = now() where id = 1".to_owned(),
        "delete from cordon.api_key".to_owned(),
        "delete from cordon.quota; delete from cordon.meter".to_owned(),
        "begin; delete from cordon.workspace; delete from cordon.resource; commit".to_owned(),
    ];
    for change in &changes {
        admin.batch_execute(change).await.unwrap();
        let loaded = store::load_unless(&mut client, &roles, &version).await.unwrap();
        version = loaded.unwrap_or_else(|| panic!("it is the same version behind {change}")).1;
        let nothing = [
            "vacuum (freeze, analyze) cordon.workspace, cordon.api_key",
            "begin; update cordon.workspace set name = 'b'; rollback",
            "select from cordon.workspace for update",
            "notify cordon_control",
        ];
        for no_change in nothing {
            admin.batch_execute(no_change).await.unwrap();
            let loaded = store::load_unless(&mut client, &roles, &version).await.unwrap();
            assert!(loaded.is_none(), "it is another version behind {no_change}");
        }
    }
    let (snapshot, again) = store::load(&mut client, &roles).await.unwrap();
    assert_eq!((snapshot.workspaces().len(), again), (0, version));
}

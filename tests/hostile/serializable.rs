//! What stays open beyond the corpus, because the victim has a part in it: Postgres finds the conflicts of SERIALIZABLE transactions by
//! pages and tables, whoever's rows are on them.

use crate::stage::on_one_and_on_many;

#[test]
fn a_serializable_transaction_can_fail_for_another_workspaces_and_nothing_is_lost_by_that() {
    on_one_and_on_many(|stage| {
        if stage.pool_size == 1 {
            return;
        }
        let own = "insert into \"Secret\" (name, value) values ('serial', 'x')";
        stage.attempt("begin isolation level serializable; select count(*) from \"Secret\"");
        stage.victim().query("begin isolation level serializable; select count(*) from \"Secret\"");
        stage.attempt(own);
        stage.victim().query(own);
        stage.attempt("commit");
        assert_eq!(
            stage.victim().query("commit"),
            "E(40001) Z(I)",
            "if it is told nothing, the list of what stays open is too long"
        );
        // As with every such error, trying again helps.
        stage.victim().query("begin isolation level serializable");
        assert!(!stage.victim().query(own).contains("E("));
        assert!(stage.victim().query("rollback").ends_with("Z(I)"));
    });
}

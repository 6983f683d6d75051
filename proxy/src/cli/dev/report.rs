//! What `pgcordon dev` prints once it accepts connections: one line of JSON for scripts, or a page for a person. The
//! names in the JSON are promises (INTERFACE).

use std::io::Write;
use std::time::Duration;

use serde::Serialize;

/// Everything a script or a person needs to connect.
#[derive(Serialize)]
pub(super) struct Report {
    pub(super) proxy: Proxy,
    pub(super) http: Http,
    pub(super) upstream: Upstream,
    pub(super) system: Dsn,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) superuser: Option<Dsn>,
    pub(super) workspaces: Vec<Workspace>,
}

#[derive(Serialize)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
}

#[derive(Serialize)]
pub(super) struct Http {
    pub(super) url: String,
    pub(super) token: String,
}

#[derive(Serialize)]
pub(super) struct Upstream {
    pub(super) admin_dsn: String,
}

#[derive(Serialize)]
pub(super) struct Dsn {
    pub(super) dsn: String,
}

#[derive(Serialize)]
pub(super) struct Workspace {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) key_id: String,
    pub(super) secret: String,
    pub(super) dsn: String,
}

/// What only the page for a person shows.
pub(super) struct Circumstances<'a> {
    pub(super) postgres: &'a str,
    pub(super) took: Duration,
    /// Where the database stays, if it does.
    pub(super) kept_in: Option<String>,
    /// The configuration that other commands can use against this Postgres.
    pub(super) config: String,
    /// A protected table to try, or none.
    pub(super) try_table: Option<String>,
    /// The demo schema is loaded.
    pub(super) demo: bool,
}

impl Report {
    /// Prints the one line. A reader that has gone doesn't end the proxy.
    pub(super) fn print_json(&self) {
        let mut out = std::io::stdout().lock();
        if let Ok(line) = serde_json::to_string(self) {
            let _ = writeln!(out, "{line}").and_then(|()| out.flush());
        }
    }

    /// Prints the page.
    pub(super) fn print_page(&self, about: &Circumstances<'_>) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(self.page(about).as_bytes()).and_then(|()| out.flush());
    }

    fn page(&self, about: &Circumstances<'_>) -> String {
        let mut page = format!(
            "\npgcordon is ready ({:.1} s): {} workspaces share one database of Postgres {}.\n\n",
            about.took.as_secs_f64(),
            self.workspaces.len(),
            about.postgres
        );
        for workspace in &self.workspaces {
            page.push_str(&format!("  {:<8} psql '{}'\n", workspace.name, workspace.dsn));
        }
        if let Some(table) = &about.try_table {
            page.push_str("\nTry in both, side by side:\n\n");
            page.push_str(&format!("  SELECT count(*) FROM {table};\n"));
            if about.demo {
                page.push_str("  INSERT INTO \"Segment\" (name) VALUES ('Mine') RETURNING \"workspaceId\";\n");
                page.push_str("  UPDATE \"Segment\" SET status = 'Paused';    -- all rows there are: your own\n");
            }
        }
        page.push_str(&format!("\n  system   psql '{}'    (all workspaces)\n", self.system.dsn));
        if let Some(superuser) = &self.superuser {
            page.push_str(&format!("  super    psql '{}'\n", superuser.dsn));
        }
        page.push_str(&format!("  direct   psql '{}'    (past the proxy)\n", self.upstream.admin_dsn));
        page.push_str(&format!("  HTTP     {}  (bearer token {})\n", self.http.url, self.http.token));
        page.push_str(&format!("  config   {}  (for pgcordon's other commands)\n\n", about.config));
        page.push_str(&match &about.kept_in {
            Some(directory) => format!("Ctrl-C ends it; the database stays in {directory}.\n"),
            None => "Ctrl-C ends it and leaves nothing behind.\n".to_owned(),
        });
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let dsn = |name: &str| Dsn { dsn: format!("postgres://{name}:s@127.0.0.1:6432/app") };
        Report {
            proxy: Proxy { host: "127.0.0.1".into(), port: 6432, database: "app".into() },
            http: Http { url: "http://127.0.0.1:6433".into(), token: "t".into() },
            upstream: Upstream { admin_dsn: "postgres://postgres:p@127.0.0.1:5433/app".into() },
            system: dsn("sys"),
            superuser: None,
            workspaces: vec![Workspace {
                id: "u".into(),
                name: "acme".into(),
                key_id: "k".into(),
                secret: "s".into(),
                dsn: dsn("k").dsn,
            }],
        }
    }

    #[test]
    fn the_json_has_the_promised_names_in_the_promised_order() {
        let json = serde_json::to_string(&report()).expect("it serialises");
        assert_eq!(
            json,
            r#"{"proxy":{"host":"127.0.0.1","port":6432,"database":"app"},"http":{"url":"http://127.0.0.1:6433","token":"t"},"upstream":{"admin_dsn":"postgres://postgres:p@127.0.0.1:5433/app"},"system":{"dsn":"postgres://sys:s@127.0.0.1:6432/app"},"workspaces":[{"id":"u","name":"acme","key_id":"k","secret":"s","dsn":"postgres://k:s@127.0.0.1:6432/app"}]}"#
        );
        let with = Report { superuser: Some(Dsn { dsn: "postgres://x".into() }), ..report() };
        assert!(
            serde_json::to_string(&with)
                .expect("it serialises")
                .contains(r#""superuser":{"dsn":"postgres://x"},"workspaces""#)
        );
    }

    #[test]
    fn the_page_has_a_line_to_paste_for_each_workspace() {
        let about = Circumstances {
            postgres: "15.18",
            took: Duration::from_millis(2300),
            kept_in: None,
            config: "/tmp/x/pgcordon.toml".into(),
            try_table: Some("\"Segment\"".into()),
            demo: true,
        };
        let page = report().page(&about);
        assert!(page.contains("  acme     psql 'postgres://k:s@127.0.0.1:6432/app'\n"), "{page}");
        assert!(page.contains("leaves nothing behind"));
    }
}

use std::time::Instant;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let n: usize = a[2].parse().unwrap();
    let stack: usize = a[3].parse().unwrap();
    let t = match a[1].as_str() {
        "plus" => format!("select 1{}", "+1".repeat(n)),
        "paren" => format!("select {}1{}", "(".repeat(n), ")".repeat(n)),
        "not" => format!("select {}true", "not ".repeat(n)),
        "cast" => format!("select 1{}", "::x".repeat(n)),
        "minus" => format!("select {}1", "- ".repeat(n)),
        "join" => format!("select * from a{}", ",a".repeat(n)),
        "cross" => format!("select * from a{}", " cross join a".repeat(n)),
        "union" => format!("select 1{}", " union select 1".repeat(n)),
        "values" => format!("insert into t values (1,'abc'){}", ",(1,'abc')".repeat(n)),
        "and" => format!("select true{}", " and true".repeat(n)),
        "sub" => format!("select {}1{}", "(select ".repeat(n), ")".repeat(n)),
        "isnull" => format!("select 1{}", " is null".repeat(n)),
        "semi" => "select 1;".repeat(n),
        "arr" => format!("select {}1{}", "array[".repeat(n), "]".repeat(n)),
        "collate" => format!("select 1{}", " collate a".repeat(n)),
        "attz" => format!("select 1{}", " at time zone a".repeat(n)),
        "in" => format!("select 1 from t where a in (1{})", ",1".repeat(n)),
        "explain" => format!("{}select 1", "explain ".repeat(n)),
        "op" => format!("select {}1", "@ ".repeat(n)),
        "type" => format!("select 1::{}x", "setof ".repeat(n)),
        "concat" => format!("select 'a'{}", "||'a'".repeat(n)),
        _ => panic!(),
    };
    println!("{} bytes", t.len());
    std::thread::Builder::new()
        .stack_size(stack)
        .spawn(move || {
            let b = Instant::now();
            let r = pg_query::parse(&t);
            println!(
                "{} {:?}",
                match r {
                    Ok(_) => "ok".into(),
                    Err(e) => {
                        let e = e.to_string();
                        e[..e.len().min(80)].to_string()
                    }
                },
                b.elapsed()
            );
        })
        .unwrap()
        .join()
        .unwrap();
    println!(
        "{}",
        std::fs::read_to_string("/proc/self/status")
            .unwrap()
            .lines()
            .filter(|l| l.starts_with("VmHWM"))
            .collect::<String>()
    );
}

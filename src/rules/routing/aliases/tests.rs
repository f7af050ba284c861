//! Aliases files as people write them, and malformed ones.

use super::*;
use proptest::prelude::*;

/// The table as lines, with targets in the syntax of the file.
fn printed(table: &AliasTable) -> Vec<String> {
    let target = |target: &AliasTarget| match target {
        AliasTarget::Address(local_part, None) => local_part.to_string(),
        AliasTarget::Address(local_part, Some(domain)) => format!("{local_part}@{domain}"),
        AliasTarget::Mailbox(local_part) => format!("\\{local_part}"),
        AliasTarget::Include(path) => format!(":include:{path}"),
    };
    let line = |(name, Alias { targets, .. }): (&String, &Alias)| {
        format!("{name}: {}", targets.iter().map(target).collect::<Vec<_>>().join(", "))
    };
    table.in_order().into_iter().map(line).collect()
}

fn told(problems: &[AliasProblem]) -> Vec<String> {
    problems.iter().map(|problem| format!("{}:{}: {}", problem.line, problem.column, problem.text)).collect()
}

#[test]
fn a_bad_line_of_a_user_s_file_is_told_by_its_number_alone() {
    let secret = "root hush hush\na@b.example, |/bin/hush\n:include:/etc/hush\n\"hush\n";
    let (targets, problems) = parse_list(secret, true);
    assert_eq!(targets.len(), 1, "{targets:?}");
    let places: Vec<_> = problems.iter().map(|it| (it.line, it.column, it.text.as_str())).collect();
    assert_eq!(places, [1, 2, 3, 4].map(|line| (line, 1, OF_USER)));
    let (table, problems) = AliasTable::parse("hush hush\nb: c, :include:/etc/hush, |hush\n", true);
    assert_eq!((table.includes().count(), problems.len()), (0, 3));
    assert!(problems.iter().all(|it| it.text == OF_USER && it.column == 1), "{problems:?}");
    assert_eq!(parse_list(":include:/etc/list", false).0.len(), 1, "the operator's may");
}

#[test]
fn every_form_of_sendmails_format_is_read() {
    for (text, expected) in [
        ("root: me@example.com", &["root: me@example.com"][..]),
        ("Root : Me@Example.com\r\n", &["root: Me@Example.com"]),
        ("root:me,you , \"a b\"@c.example", &["root: me, you, \"a b\"@c.example"]),
        ("a: b,\n\tc\n  d, e\nf: g\n", &["a: b, c, d, e", "f: g"]),
        ("a:\n  b\n", &["a: b"]),
        ("a: b,\n# a comment\n\n   # another\n c\n", &["a: b, c"]),
        ("a: b # why, not\n  ,c#d # x\n", &["a: b, c#d"]),
        ("\"a b\": c\n\"x:y\": d", &["a b: c", "x:y: d"]),
        (
            "a: \"b, c\"@d.example, e (f, g), \"H, I\" <h@i.example>, J <j>",
            &["a: \"b, c\"@d.example, e, h@i.example, j"],
        ),
        ("a: \\b, \\a", &["a: \\b, \\a"]),
        (
            "a: :include:/x/y, \":include:/x y\", :INCLUDE: /z",
            &["a: :include:/x/y, :include:/x y, :include:/z"],
        ),
        ("*: me\nowner-x: y\na+b: c", &["*: me", "owner-x: y", "a+b: c"]),
        ("ü: jörg@ü.example", &["ü: jörg@ü.example"]),
        ("", &[]),
        ("\u{feff}root: joe\r\n", &["root: joe"]),
        ("# nothing\n\n", &[]),
    ] {
        let (table, problems) = AliasTable::parse(text, false);
        assert_eq!(
            (printed(&table), told(&problems)),
            (expected.iter().map(|s| (*s).into()).collect(), vec![])
        );
    }
}

#[test]
fn a_line_of_no_use_is_told_with_its_place_and_the_others_stay() {
    let text = "  joe\na: b, |/bin/x, c\nb: \"|x -a, y\",\n  /dev/null\nno colon\n  x, y\nc@d: e\nc d: e\nA: z\n \
                zz\nd: e f, \"g, :include:x, :fail: no, <a@b, \u{1b}@x y\nü: c, |x\ne: f\n";
    let (table, problems) = AliasTable::parse(text, false);
    assert_eq!(printed(&table), ["a: b, c", "ü: c", "e: f"], "nothing is left of b and d");
    let address = "write user or user@example.com, with commas between";
    assert_eq!(
        told(&problems),
        [
            "1:1: this line continues no alias; write NAME: ADDRESS, …".to_owned(),
            "2:7: \"|/bin/x\" is a command, and pillarbox runs none for mail; write an address".into(),
            "3:4: \"\\\"|x -a, y\\\"\" is a command, and pillarbox runs none for mail; write an address"
                .into(),
            "4:3: \"/dev/null\" is a file, and mail is delivered only to Maildirs; write an address".into(),
            "5:1: there is no colon; write NAME: ADDRESS, …".into(),
            "7:1: an alias is a local name; leave the @ and the domain out of \"c@d\"".into(),
            "8:1: \"c d\" is no local name; write one word, or quote it".into(),
            "9:1: \"a\" is listed twice; remove one of the lines".into(),
            format!("11:4: \"e f\" is no address; {address}"),
            format!("11:9: \"\\\"g, :include:x, :fail: no, <a@b, \\u{{1b}}@x y\" is no address; {address}"),
            "12:7: \"|x\" is a command, and pillarbox runs none for mail; write an address".into(),
        ]
    );
    for (item, told) in
        [(":include:x", "can't be followed"), (":fail: no", "can't be followed"), ("\\", "no address")]
    {
        let (targets, problems) = parse_list(item, false);
        assert!(targets.is_empty() && problems[0].text.contains(told), "{item}: {problems:?}");
    }
    let (_, problems) = AliasTable::parse(&"x\n".repeat(10_000), false);
    assert_eq!(problems.len(), PROBLEMS_MAX);
}

#[test]
fn a_list_has_addresses_with_commas_or_line_ends_between() {
    let (targets, problems) =
        parse_list("# team\na@b.example, c\n\n  d (on leave) # x\r\n|x\n:include:/y\n", false);
    assert_eq!(told(&problems).len(), 1);
    assert!(problems[0].line == 5 && problems[0].column == 1);
    assert_eq!((targets.len(), includes(&targets).collect::<Vec<_>>()), (4, vec!["/y"]));
}

#[test]
fn a_name_is_found_with_its_detail_first_and_everybody_last() {
    let (table, problems) = AliasTable::parse("joe: a\nJoe+list: b\n*: c\n\"a+b\": d\n", false);
    assert_eq!(problems, []);
    for (name, separator, expected) in [
        ("joe", Some('+'), "joe"),
        ("joe+list", Some('+'), "joe+list"),
        ("joe+other", Some('+'), "joe"),
        ("joe+list+x", Some('+'), "joe"),
        ("joe+other", None, "*"),
        ("joe-x", Some('-'), "joe"),
        ("mia", Some('+'), "*"),
        ("a+b", Some('+'), "a+b"),
    ] {
        assert_eq!(table.find(name, separator).map(|(alias, _)| alias), Some(expected), "{name}");
    }
    let (table, _) = AliasTable::parse("joe: a", false);
    assert_eq!(table.find("mia", Some('+')), None);
}

/// The lines of the example, including those that are commented out.
#[test]
fn the_example_is_without_mistakes() {
    let example = include_str!("../../../../etc/aliases");
    let all: String = example
        .split_inclusive('\n')
        .map(|line| {
            let alias = line
                .strip_prefix("# ")
                .filter(|rest| rest.split_once(':').is_some_and(|(name, _)| !name.contains(' ')));
            alias.unwrap_or(line)
        })
        .collect();
    for (text, count) in [(example, 6), (&all, 11)] {
        let (table, problems) = AliasTable::parse(text, false);
        assert_eq!((told(&problems), table.aliases.len()), (vec![], count));
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "([a-c:#\\n, \"\\\\|/<>()@+*]|:include:|\\PC)*") {
        for problems in [AliasTable::parse(&text, false).1, parse_list(&text, false).1] {
            prop_assert!(problems.iter().all(|p| (1..=text.lines().count()).contains(&p.line) && p.column >= 1));
            prop_assert!(!problems.iter().any(|p| p.text.contains(char::is_control)));
        }
    }

    #[test]
    fn what_is_read_is_read_again_the_same(text in "([a-c:#\\n, \"\\\\|/<>()@+*]|:include:|\\PC)*") {
        let lines = printed(&AliasTable::parse(&text, false).0);
        let quoted: Vec<String> = lines
            .iter()
            .filter(|line| !line.contains([' ', '"', '\\', '(', '<', '>', '#']))
            .cloned()
            .collect();
        let (again, problems) = AliasTable::parse(&quoted.join("\n"), false);
        prop_assert_eq!((printed(&again), problems), (quoted, vec![]));
    }
}

#[test]
fn an_escaped_quote_ends_no_quotes() {
    let (targets, problems) = parse_list(r#""a\", b"@far.example, c"#, false);
    assert_eq!((targets.len(), problems), (2, Vec::new()), "{targets:?}");
}

//! The functions of the schema: search, tags, and the folding of case.

use crm_storage_postgres::Migrations;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::common::{
    ACME, Database, GLOBEX, become_application, contact, count, insert, object, refusal, run,
    strings,
};

async fn found(connection: &mut PgConnection, query: &str) -> Vec<u128> {
    let ids: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM crm.search($1, 'contacts', $2, 10)")
        .bind(ACME)
        .bind(query)
        .fetch_all(connection)
        .await
        .unwrap_or_else(|error| panic!("{error}: {query}"));
    ids.iter().map(Uuid::as_u128).collect()
}

/// C-135: words, their beginnings, accents; whatever is typed.
#[tokio::test]
async fn the_search_finds_the_tenants_own_live_records() {
    for locale in ["C", "C.UTF-8"] {
        let database = Database::with("search", locale, None).await;
        Migrations::new().run(&database.pool).await.unwrap();
        let mut connection = database.connection().await;
        let mut work = connection.begin().await.unwrap();
        for row in [
            contact(
                ACME,
                1,
                &[
                    ("first_name", "'Will'"),
                    ("last_name", "'Smith'"),
                    ("email", "'will@acme.example'"),
                ],
            ),
            contact(
                ACME,
                2,
                &[
                    ("first_name", "'ÉLODIE'"),
                    ("last_name", "'Müller-Lüdenscheidt'"),
                    ("company", "'Will Ltd'"),
                ],
            ),
            contact(
                ACME,
                3,
                &[("last_name", "'Willow'"), ("deleted_at", "'2026-01-01'")],
            ),
            contact(
                GLOBEX,
                4,
                &[("first_name", "'Will'"), ("last_name", "'Smith'")],
            ),
            contact(
                ACME,
                5,
                &[
                    ("last_name", "'O''Neill'"),
                    ("description", "'called on Monday; Straße 5 \\ wants more'"),
                ],
            ),
        ] {
            run(&mut work, &row).await;
        }
        become_application(&mut work, Some(ACME)).await;
        for (query, expected) in [
            ("will", vec![1, 2]),
            ("Will", vec![1, 2]),
            ("WIL", vec![1, 2]),
            ("smi wil", vec![1]),
            ("will@acme", vec![1]),
            ("will@acme.exam", vec![1]),
            ("will@acme.example", vec![1]),
            ("will smith jones", vec![]),
            ("elodie", vec![2]),
            ("Élodie", vec![2]),
            ("élo", vec![2]),
            ("muller", vec![2]),
            ("müller-lü", vec![2]),
            ("MÜLLER", vec![2]),
            ("o'neill", vec![5]),
            ("o'ne", vec![5]),
            ("straße", vec![5]),
            ("monday \\", vec![5]),
            ("", vec![]),
            ("   ", vec![]),
            ("' & | ! <-> :* ( ) \\", vec![]),
            ("will' | 'smith", vec![1]),
            ("will:*", vec![1, 2]),
            ("!will", vec![1, 2]),
            ("%", vec![]),
            ("_", vec![]),
            ("\u{1f600}", vec![]),
        ] {
            assert_eq!(
                found(&mut work, query).await,
                expected,
                "{query:?} in {locale}"
            );
        }
        // Nothing that is typed is an error.
        for query in [
            "'''",
            "\\",
            "a\\",
            "\\'",
            "(((",
            "a b c d e f g h i j k l m n o p q r s t",
        ] {
            found(&mut work, query).await;
        }
        for letter in ["x", "ﷺ", "é ", "' "] {
            found(&mut work, &letter.repeat(10_000)).await;
        }
        // A first name weighs more than a company.
        let ranks: Vec<f32> =
            sqlx::query_scalar("SELECT rank FROM crm.search($1, 'contacts', 'will', 10)")
                .bind(ACME)
                .fetch_all(&mut *work)
                .await
                .unwrap();
        assert!(ranks[0] > ranks[1], "{ranks:?}");
        for (most, expected) in [(1, 1), (0, 0), (-1, 0)] {
            let rows = count(
                &mut work,
                &format!("SELECT count(*) FROM crm.search('{ACME}', 'contacts', 'will', {most})"),
            )
            .await;
            assert_eq!(rows, expected);
        }
        work.rollback().await.unwrap();
        drop(connection);
        database.drop().await;
    }
}

/// C-138.
#[tokio::test]
async fn tags_are_found_by_any_and_by_all() {
    let database = Database::migrated("tags").await;
    let mut connection = database.connection().await;
    let mut work = connection.begin().await.unwrap();
    for (tenant, id, tags) in [
        (ACME, 1, "'{vip,new}'"),
        (ACME, 2, "'{new}'"),
        (ACME, 3, "'{}'"),
        (GLOBEX, 4, "'{vip,new}'"),
    ] {
        run(&mut work, &contact(tenant, id, &[("tags", tags)])).await;
    }
    become_application(&mut work, Some(ACME)).await;
    for (tags, all, expected) in [
        (vec!["vip", "new"], true, vec![1]),
        (vec!["vip", "new"], false, vec![1, 2]),
        (vec!["vip"], false, vec![1]),
        (vec!["VIP"], false, vec![]),
        (vec!["a\"b'c\\"], false, vec![]),
        (vec![], true, vec![1, 2, 3]),
        (vec![], false, vec![]),
    ] {
        let mut ids: Vec<Uuid> =
            sqlx::query_scalar("SELECT unnest(crm.tagged($1, 'contacts', 'tags', $2, $3, 1000))")
                .bind(ACME)
                .bind(&tags)
                .bind(all)
                .fetch_all(&mut *work)
                .await
                .unwrap();
        ids.sort();
        let ids: Vec<u128> = ids.iter().map(Uuid::as_u128).collect();
        assert_eq!(ids, expected, "{tags:?} {all}");
    }
    work.rollback().await.unwrap();
    drop(connection);
    database.drop().await;
}

#[tokio::test]
async fn the_search_functions_refuse_other_tenants_tables_and_roles() {
    let database = Database::migrated("refuse").await;
    let mut connection = database.connection().await;
    run(
        &mut connection,
        "CREATE TABLE public.contacts (tenant_id uuid, id uuid, search_vector tsvector, tags text[])",
    )
    .await;
    let mut work = connection.begin().await.unwrap();
    become_application(&mut work, Some(ACME)).await;
    let other = GLOBEX.to_string();
    let own = ACME.to_string();
    for (statement, code) in [
        (
            format!("SELECT * FROM crm.search('{other}', 'contacts', 'a', 9)"),
            "42501",
        ),
        (
            "SELECT * FROM crm.search(NULL, 'contacts', 'a', 9)".to_owned(),
            "42501",
        ),
        (
            format!("SELECT * FROM crm.tagged('{other}', 'contacts', 'tags', '{{a}}', true, 1000)"),
            "42501",
        ),
        (
            "SELECT * FROM crm.tagged(NULL, 'contacts', 'tags', '{a}', true, 1000)".to_owned(),
            "42501",
        ),
        (
            format!("SELECT * FROM crm.search('{own}', 'audit_events', 'a', 9)"),
            "42P01",
        ),
        (
            format!("SELECT * FROM crm.search('{own}', 'pg_class', 'a', 9)"),
            "42P01",
        ),
        (
            format!("SELECT * FROM crm.search('{own}', 'contacts; DROP TABLE x', 'a', 9)"),
            "42P01",
        ),
        (
            format!("SELECT * FROM crm.search('{own}', NULL, 'a', 9)"),
            "42P01",
        ),
        (
            format!("SELECT * FROM crm.tagged('{own}', 'contacts', 'email', '{{a}}', true, 1000)"),
            "42703",
        ),
        (
            format!(
                "SELECT * FROM crm.tagged('{own}', 'contacts', 'tags || x', '{{a}}', true, 1000)"
            ),
            "42703",
        ),
        (
            format!("SELECT * FROM crm.tagged('{own}', 'pg_class', 'relacl', '{{a}}', true, 1000)"),
            "42703",
        ),
    ] {
        assert_eq!(
            refusal(&mut work, &statement).await.as_deref(),
            Some(code),
            "{statement}"
        );
    }
    // Without a tenant there is nobody to search for.
    become_application(&mut work, None).await;
    let statement = format!("SELECT * FROM crm.search('{own}', 'contacts', 'a', 9)");
    assert_eq!(
        refusal(&mut work, &statement).await.as_deref(),
        Some("42501")
    );
    run(&mut work, "SET LOCAL ROLE pg_monitor").await;
    let statement = format!("SELECT * FROM crm.search('{own}', 'contacts', 'a', 9)");
    assert_eq!(
        refusal(&mut work, &statement).await.as_deref(),
        Some("42501")
    );
    // The role of the functions reads what a search needs, takes entries out of logs, and does nothing
    // else.
    run(&mut work, "SET LOCAL ROLE crm_search").await;
    run(&mut work, "SELECT id, tags FROM crm.contacts").await;
    // Of logs, only the tenant's own entries.
    run(&mut work, "SET LOCAL crm.tenant_id = ''").await;
    assert_eq!(
        count(&mut work, "SELECT count(*) FROM crm.audit_events").await,
        0
    );
    for statement in [
        "SELECT email FROM crm.contacts",
        "UPDATE crm.audit_events SET version = 2",
        "SELECT * FROM crm.audit_seals",
        "SELECT * FROM crm.deletion_logs",
        "SELECT * FROM crm.tenants",
        "DELETE FROM crm.contacts",
    ] {
        assert_eq!(
            refusal(&mut work, statement).await.as_deref(),
            Some("42501"),
            "{statement}"
        );
    }
    work.rollback().await.unwrap();
    drop(connection);
    database.drop().await;
}

/// Operators that are not leakproof can't use an index for the application, and do for the search
/// functions: what they are there for.
#[tokio::test]
async fn the_search_functions_use_the_inverted_indexes() {
    let database = Database::migrated("plans").await;
    let mut connection = database.connection().await;
    let mut work = connection.begin().await.unwrap();
    let row = contact(
        ACME,
        1,
        &[
            ("id", "x"),
            ("first_name", "'Ada' || n"),
            ("tags", "ARRAY['t' || n]"),
        ],
    )
    .replace(&format!("'{}'", Uuid::from_u128(1)), "gen_random_uuid()")
    .replace(
        &format!("VALUES ('{ACME}'"),
        &format!("SELECT '{ACME}'::uuid"),
    )
    .replace(");", " FROM generate_series(1, 20000) AS n;");
    run(&mut work, &row).await;
    run(&mut work, "ANALYZE crm.contacts").await;
    for (condition, index) in [
        (
            "search_vector @@ '''ada77'':*'::tsquery",
            "contacts_search_vector_idx",
        ),
        ("tags @> '{t5}'", "contacts_tags_idx"),
    ] {
        let explain = format!(
            "EXPLAIN SELECT id FROM crm.contacts WHERE tenant_id = '{ACME}' AND {condition}"
        );
        for (role, expected) in [("crm_app", false), ("crm_search", true)] {
            become_application(&mut work, Some(ACME)).await;
            run(&mut work, &format!("SET LOCAL ROLE {role}")).await;
            let plan = strings(&mut work, &explain).await.join("\n");
            assert_eq!(plan.contains(index), expected, "{role}: {plan}");
        }
    }
    work.rollback().await.unwrap();
    drop(connection);
    database.drop().await;
}

/// what is found beside the text fields of records stands in a table of its own, is found together
/// with them, for the tenant and the object that ask, and is looked up by its inverted index: as the
/// application calls it.
#[tokio::test]
async fn the_search_looks_into_the_words_of_custom_fields_by_their_index() {
    let database = Database::migrated("texts").await;
    let mut connection = database.connection().await;
    let mut work = connection.begin().await.unwrap();
    let text = |tenant: Uuid, id: u128, record: u128, key: &str, words: &str| {
        let (id, record) = (Uuid::from_u128(id), Uuid::from_u128(record));
        let all = [
            ("id", format!("'{id}'")),
            ("object", format!("'{key}'")),
            ("record_id", format!("'{record}'")),
            ("words", format!("'{words}'")),
        ];
        let all: Vec<(&str, &str)> = all
            .iter()
            .map(|(name, sql)| (*name, sql.as_str()))
            .collect();
        insert(&object("custom_text"), tenant, &all)
    };
    for row in [
        contact(ACME, 1, &[("first_name", "'Ada'")]),
        text(ACME, 11, 1, "contact", "ada countess"),
        contact(ACME, 2, &[("first_name", "'Countess'")]),
        contact(
            ACME,
            3,
            &[("first_name", "'Ada'"), ("deleted_at", "'2026-01-01'")],
        ),
        text(ACME, 13, 3, "contact", "ada countess"),
        contact(GLOBEX, 4, &[("first_name", "'Ada'")]),
        text(GLOBEX, 14, 4, "contact", "ada countess"),
        // Of another object, and of a record that is another tenant's.
        text(ACME, 15, 2, "deal", "ada countess"),
        text(ACME, 16, 4, "contact", "ada countess"),
    ] {
        run(&mut work, &row).await;
    }
    let many = format!(
        "INSERT INTO crm.custom_field_texts (tenant_id, id, version, created_at, created_by, \
         updated_at, updated_by, object, record_id, words) SELECT tenant_id, gen_random_uuid(), \
         version, created_at, created_by, updated_at, updated_by, object, \
         gen_random_uuid(), 'word' || n FROM crm.custom_field_texts, generate_series(1, 20000) AS n \
         WHERE id = '{}'",
        Uuid::from_u128(11)
    );
    run(&mut work, &many).await;
    run(&mut work, "ANALYZE crm.custom_field_texts").await;
    become_application(&mut work, Some(ACME)).await;
    let scans =
        "SELECT pg_stat_get_xact_numscans('crm.custom_field_texts_search_vector_idx'::regclass)";
    let before = count(&mut work, scans).await;
    for (query, expected) in [
        ("countess", vec![2, 1]),
        ("ADA count", vec![1]),
        ("ada", vec![1]),
        ("word77", vec![]),
    ] {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT id FROM crm.search($1, 'contacts', $2, 10, NULL, NULL, 'custom_field_texts', 'contact')",
        )
        .bind(ACME)
        .bind(query)
        .fetch_all(&mut *work)
        .await
        .unwrap();
        let mut ids: Vec<u128> = ids.iter().map(Uuid::as_u128).collect();
        let mut expected = expected;
        ids.sort_unstable();
        expected.sort_unstable();
        assert_eq!(ids, expected, "{query:?}");
    }
    assert!(
        count(&mut work, scans).await > before,
        "the index is not used"
    );
    // The application itself sees its own rows only, and no index serves it.
    let own = count(&mut work, "SELECT count(*) FROM crm.custom_field_texts").await;
    assert_eq!(own, 20_004);
    for texts in ["pg_class", "contacts; DROP TABLE x", "users"] {
        let call = format!(
            "SELECT * FROM crm.search('{ACME}', 'no_such', 'a', 9, NULL, NULL, '{texts}', 'contact')"
        );
        let code = refusal(&mut work, &call).await;
        assert!(
            matches!(code.as_deref(), Some("42P01" | "42703" | "42501")),
            "{texts}: {code:?}"
        );
    }
    work.rollback().await.unwrap();
    drop(connection);
    database.drop().await;
}

/// What the library folds and what the database folds must be the same.
#[tokio::test]
async fn case_is_folded_as_the_library_folds_it() {
    for locale in ["C", "C.UTF-8"] {
        let database = Database::with("fold", locale, None).await;
        Migrations::new().run(&database.pool).await.unwrap();
        let mut connection = database.connection().await;
        let letters = ('\u{1}'..=char::MAX)
            .filter(|letter| letter.is_alphabetic() || (*letter as u32) < 0x3000);
        let scalars = ('\u{1}'..=char::MAX).map(String::from);
        let contexts = letters.flat_map(|c| {
            [
                format!("{c}Σ"),
                format!("A{c}Σ"),
                format!("AΣ{c}"),
                format!("AΣ{c}A"),
                format!("É{c}É"),
                format!("İ{c}I"),
            ]
        });
        let words = [
            "",
            "ΑΣ",
            "ΑΣΑ",
            "Σ",
            "ΣΑΣ",
            "ΑΣ.",
            "ΑΣ Α",
            "Α.Σ",
            "ΑΣ'Α",
            "ΑΣ\u{301}",
            "ΑΣ\u{301}Α",
            "İ",
            "Iİ",
            "DİYARBAKIR",
            "STRASSE",
            "Straße",
            "ẞ",
            "ǅ",
            "ΌΣΟΣ",
            "Å",
            "K",
            "Ω",
            "\u{130}\u{307}",
            "I\u{307}",
            "ᾼ",
            "Ⅷ",
            "Ⓐ",
            "Ａ",
            "𐐀",
            "ᲀ",
            "Ა",
            "Ꭰ",
            "Ɤ",
        ]
        .map(String::from);
        let mut differing = Vec::new();
        let all: Vec<String> = scalars.chain(contexts).chain(words).collect();
        for texts in all.chunks(200_000) {
            let folded: Vec<String> = texts.iter().map(|text| text.to_lowercase()).collect();
            let wrong: Vec<(String, String, String)> = sqlx::query_as(
                "SELECT text, crm.fold_case(text), folded FROM unnest($1::text[], $2::text[]) AS t(text, folded) \
                 WHERE crm.fold_case(text) COLLATE \"C\" <> folded",
            )
            .bind(texts)
            .bind(&folded)
            .fetch_all(&mut *connection)
            .await
            .unwrap();
            // Which sigma ends a word depends on its neighbours, and servers may not know the letters
            // that are younger than they are.
            let old = |text: &str| {
                text.chars()
                    .all(|c| matches!(c as u32, 0..=0x294 | 0x296..=0x52F | 0x1F00..=0x206F))
            };
            differing.extend(wrong.into_iter().filter(|(text, here, folded)| {
                old(text) || here.replace('ς', "σ") != folded.replace('ς', "σ")
            }));
        }
        println!(
            "{} texts, {} differ in {locale}",
            all.len(),
            differing.len()
        );
        assert_eq!(differing, [], "{locale}");
        let null: Option<String> = sqlx::query_scalar("SELECT crm.fold_case(NULL)")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        assert_eq!(null, None);
        drop(connection);
        database.drop().await;
    }
}

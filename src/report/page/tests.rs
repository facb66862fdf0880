use super::experiment::{Content, page};
use crate::report::data::ExperimentData;
use crate::report::plot;
use crate::report::table::fixture::{self, Fixture};
use crate::report::table::tables;
use crate::store::rows::Status;
use crate::store::{MachineRow, PlanRow, TroubledAttempt};

const HOSTILE: [&str; 3] = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>&\"'`{{ 1234 * 1000 }}{% raw %}",
    "\u{202e}desrever\u{1b}[31m\u{0}",
];

fn hostile() -> ExperimentData {
    let mut data = Fixture::product("hostile", &[("label", &HOSTILE)], 2, &["train"])
        .baseline(&[Some(HOSTILE[0])])
        .finish(0.6, |variant, _| 50.0 + variant as f64)
        .lose(1, 1, Status::Failed, Some("diverged"))
        .costs(|_| 1e13, |_| 55_000)
        .configurations("augmentation")
        .data;
    data.experiment.title = HOSTILE[1].to_owned();
    data.experiment.claim = HOSTILE[0].to_owned();
    data.background.plan = Some(PlanRow {
        saved: 1_764_000_000.0,
        profile: "quick".to_owned(),
        path: HOSTILE[0].to_owned(),
        source: format!("name: x\ntitle: {}\n", HOSTILE[0]),
        program: "ablate 0.1.0".to_owned(),
        git_revision: None,
        host: HOSTILE[1].to_owned(),
        command_line: HOSTILE[2].to_owned(),
    });
    data.background.machines = vec![MachineRow {
        host: HOSTILE[0].to_owned(),
        device: "cpu".to_owned(),
        program: None,
        attempts: 6,
    }];
    data.background.attempts = vec![TroubledAttempt {
        fingerprint: "ab".to_owned(),
        stage: "train".to_owned(),
        run: HOSTILE[0].to_owned(),
        runs: 2,
        attempt: 1,
        status: Status::Failed,
        failure: Some("diverged".to_owned()),
        message: Some(HOSTILE[1].to_owned()),
        device: "cpu:0".to_owned(),
        host: HOSTILE[2].to_owned(),
        started: 1_764_000_000.0,
        ended: Some(1_764_000_090.0),
        resumed_step: Some(12),
        exit_code: Some(73),
        signal: None,
    }];
    data
}

fn rendered(data: &ExperimentData) -> String {
    let tables = tables(data).unwrap();
    let tables: Vec<_> = tables
        .iter()
        .map(|table| ("Result".to_owned(), table))
        .collect();
    let plots = plot::plots(data).unwrap();
    page(&Content {
        data,
        tables: &tables,
        plots: &plots.drawn,
        missing: &plots.missing,
        setting: None,
        effect: None,
        files: vec![("results.csv".to_owned(), "every result".to_owned())],
    })
    .unwrap()
}

#[test]
fn nothing_that_a_label_says_becomes_markup() {
    let page = rendered(&hostile());
    assert_eq!(page.matches("<script").count(), 1, "only our own");
    assert!(!page.contains("<img"));
    assert!(!page.contains("1234000"), "templates in labels are not run");
    for raw in ["\u{202e}", "\u{1b}", "\u{0}"] {
        assert!(!page.contains(raw));
    }
    assert!(page.contains("&lt;&#x2f;script&gt;") || page.contains("&lt;/script&gt;"));
}

#[test]
fn a_page_has_its_sections_and_asks_for_nothing() {
    let mut data = fixture::loss()
        .costs(
            |variant| [2.1e13, 8.4e13][variant % 2],
            |variant| [55_000, 210_000][variant % 2],
        )
        .configurations("loss")
        .data;
    data.background.plan = hostile().background.plan.map(|plan| PlanRow {
        path: "experiments/loss.yaml".to_owned(),
        source: "name: loss\n".to_owned(),
        host: "here".to_owned(),
        command_line: "ablate run loss".to_owned(),
        ..plan
    });
    let page = rendered(&data);
    for id in [
        "tables",
        "plots",
        "configuration",
        "cost",
        "attempts",
        "provenance",
    ] {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
        assert!(page.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    // The fields that `loss.yaml` varies, and no other.
    assert!(page.contains("<code>loss.name</code>"));
    assert!(page.contains("<code>model.embed_dim</code>"));
    assert!(!page.contains("<code>optimizer.lr</code>"));
    assert!(page.contains("84.0 T"), "FLOPs of the larger model");
    for foreign in ["http://", "https://", "url(", "@import", "src=", "<link"] {
        let own = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!own.contains(foreign), "{foreign}");
    }
    assert_eq!(rendered(&data), page, "a second page is the same");
}

#[test]
fn an_experiment_before_its_first_result_has_a_page() {
    let data = Fixture::product("pending", &[("loss", &["ce", "bce"])], 2, &["train"]).data;
    let page = rendered(&data);
    assert!(page.contains("0 of 4 runs done"));
    assert!(page.contains("Nothing is known of the cost"));
    assert!(!page.contains("<section id=\"plots\">"));
}

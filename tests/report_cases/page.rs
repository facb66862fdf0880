//! The web pages, in a real browser.

use crate::chromium::{self, Chromium};
use crate::store::{files, trained, wide};
use serde_json::Value;
use std::path::Path;

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// Whatever the page complained about or asked of the network since it was opened.
fn complaints(browser: &mut Chromium) -> Vec<String> {
    browser
        .take_events()
        .iter()
        .filter_map(|event| {
            let params = &event["params"];
            match event["method"].as_str()? {
                "Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded" => {
                    Some(params.to_string())
                }
                "Network.requestWillBeSent" => {
                    let url = params["request"]["url"].as_str()?;
                    let is_ours = url.starts_with("file://") && url.ends_with("index.html");
                    (!is_ours && !url.starts_with("data:")).then(|| url.to_owned())
                }
                _ => None,
            }
        })
        .collect()
}

/// Texts of the cells of column `column` of the first table, in their order.
fn column(browser: &mut Chromium, column: usize) -> Vec<String> {
    let texts = browser.evaluate(&format!(
        "[...document.querySelector('main table').tBodies[0].rows].map(row => row.cells[{column}].textContent)"
    ));
    let texts = texts.as_array().unwrap().iter();
    texts
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

/// Keeps a picture for a person to look at, in the folder that `ABLATE_PAGE_SHOTS` names.
fn keep(browser: &mut Chromium, name: &str) {
    let Some(folder) = std::env::var_os("ABLATE_PAGE_SHOTS").map(std::path::PathBuf::from) else {
        return;
    };
    std::fs::create_dir_all(&folder).unwrap();
    let shot = decode(&browser.screenshot());
    std::fs::write(folder.join(format!("{name}.png")), shot).unwrap();
}

/// Base64.
fn decode(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for digit in text.bytes().filter_map(value) {
        bits = bits << 6 | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// Luminance, from 0 to 255, of a computed colour (`rgb(21, 24, 28)`).
fn luminance(colour: &Value) -> f64 {
    let numbers: Vec<f64> = colour
        .as_str()
        .unwrap()
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .filter_map(|part| part.parse().ok())
        .collect();
    0.2126 * numbers[0] + 0.7152 * numbers[1] + 0.0722 * numbers[2]
}

#[test]
fn report_pages_in_a_browser() {
    let Some(program) = chromium::find() else {
        // Not through `eprintln!`, which a test that passes keeps to itself.
        use std::io::Write;
        let _ = std::io::stderr().write_all(
            b"left out: the web pages in a browser, since this machine has no Chromium (`apt-get install chromium`)\n",
        );
        return;
    };
    let place = trained();
    let out = place.path().join("pages");
    place.done(&["report", "--out", "pages"]);
    let page = out.join("tiny/index.html");
    let mut browser = Chromium::start(&program);
    browser.resize(1200, 900);
    browser.prefer("screen", "light");
    browser.open(&url(&page));
    assert_eq!(
        browser.evaluate("document.querySelector('h1').textContent"),
        "Crop and length <of> training & more"
    );
    let plots = files(&out.join("tiny"))
        .iter()
        .filter(|file| file.extension().is_some_and(|form| form == "svg"))
        .count();
    assert!(plots >= 8, "{plots}");
    assert_eq!(
        browser.evaluate("document.querySelectorAll('figure svg').length"),
        plots
    );
    let links = browser.evaluate(
        "[...document.querySelectorAll('a[href]')].map(link => link.getAttribute('href'))",
    );
    for link in links.as_array().unwrap() {
        let link = link.as_str().unwrap();
        if let Some(id) = link.strip_prefix('#') {
            let found = browser.evaluate(&format!("document.getElementById({id:?}) !== null"));
            assert_eq!(found, true, "{link}");
        } else {
            assert!(out.join("tiny").join(link).is_file(), "{link}");
        }
    }
    // The fields that vary are named, and the file is there with its line breaks.
    let text = browser.evaluate("document.querySelector('#configuration').textContent");
    assert!(text.as_str().unwrap().contains("augment.crop"));
    let source = browser.evaluate("document.querySelector('#provenance pre').textContent");
    assert!(
        source
            .as_str()
            .unwrap()
            .contains("recipe: quick\nseeds: 2\n")
    );
    keep(&mut browser, "light");

    sorting(&mut browser);
    colours(&mut browser);

    // A phone: nothing but tables, in boxes of their own, is wider than the page.
    browser.resize(390, 844);
    let too_wide = browser.evaluate("document.documentElement.scrollWidth - window.innerWidth");
    assert!(too_wide.as_i64().unwrap() <= 0, "{too_wide} px too wide");
    browser.prefer("screen", "light");
    keep(&mut browser, "phone");

    browser.resize(1200, 900);
    browser.prefer("print", "dark");
    assert!(
        luminance(&browser.evaluate("getComputedStyle(document.body).backgroundColor")) > 250.0,
        "printed on white whatever the screen's colours"
    );
    let hidden = browser.evaluate("getComputedStyle(document.querySelector('nav')).display");
    assert_eq!(hidden, "none");
    browser.prefer("", "light");
    let pdf = decode(&browser.print());
    assert!(pdf.starts_with(b"%PDF-") && pdf.len() > 20_000);
    if let Some(folder) = std::env::var_os("ABLATE_PAGE_SHOTS") {
        std::fs::write(Path::new(&folder).join("print.pdf"), pdf).unwrap();
    }
    assert_eq!(complaints(&mut browser), [""; 0]);

    browser.prefer("screen", "light");
    browser.open(&url(&out.join("index.html")));
    assert_eq!(
        browser.evaluate("document.querySelector('main table').tBodies[0].rows.length"),
        2
    );
    assert_eq!(
        browser.evaluate("document.querySelectorAll('figure svg').length"),
        2
    );
    keep(&mut browser, "index");
    assert_eq!(complaints(&mut browser), [""; 0]);

    // On paper nothing can be scrolled to: every kind of table at the width of A4 less its margins.
    std::fs::write(place.path().join("paper.yaml"), wide()).unwrap();
    place.done(&["report", "paper.yaml", "--out", "paper"]);
    browser.resize(718, 1000);
    browser.prefer("print", "light");
    browser.open(&url(&place.path().join("paper/tiny/index.html")));
    let heads = browser.evaluate(
        "Math.max(...[...document.querySelectorAll('table')].map(table => table.tHead.rows[0].cells.length))",
    );
    assert!(heads.as_u64().unwrap() >= 12, "{heads}");
    let too_wide = browser.evaluate(
        "Math.max(...[...document.querySelectorAll('table')].map(table => table.getBoundingClientRect().right)) \
         - document.querySelector('main').getBoundingClientRect().right",
    );
    assert!(
        too_wide.as_f64().unwrap() < 1.0,
        "{too_wide} px are cut off"
    );
    keep(&mut browser, "paper");
}

/// A press on a head sorts by numbers, the next one the other way round, the third undoes it.
fn sorting(browser: &mut Chromium) {
    // The table of all variants: the first table is the pivot, which has a row per length.
    let press = |browser: &mut Chromium, head: usize| {
        browser.evaluate(&format!(
            "document.querySelector('main table').tHead.rows[document.querySelector('main table').tHead.rows.length - 1]\
             .cells[{head}].querySelector('button').click()"
        ));
    };
    let original = column(browser, 0);
    assert_eq!(original, ["1", "2"]);
    press(browser, 0);
    assert_eq!(column(browser, 0), ["1", "2"]);
    press(browser, 0);
    assert_eq!(column(browser, 0), ["2", "1"]);
    press(browser, 0);
    assert_eq!(column(browser, 0), original);
    // By a column of values.
    let number = |text: &str| -> f64 {
        let number: String = text
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        number.parse().unwrap()
    };
    press(browser, 1);
    let values: Vec<f64> = column(browser, 1).iter().map(|text| number(text)).collect();
    assert!(values.is_sorted(), "{values:?}");
    press(browser, 1);
    let values: Vec<f64> = column(browser, 1).iter().map(|text| number(text)).collect();
    assert!(values.iter().rev().is_sorted(), "{values:?}");
    press(browser, 1);
    assert_eq!(column(browser, 0), original);
    // Rows of a group stay under its head.
    let groups = browser.evaluate(
        "(() => {
            const table = [...document.querySelectorAll('main table')].find(table => table.querySelector('tr.group'));
            const shape = () => [...table.tBodies[0].rows].map(row => row.classList.contains('group')).join();
            const before = shape();
            table.tHead.querySelector('button').click();
            const after = shape();
            return before === after && before.includes('true') ? 'kept' : before + ' became ' + after;
        })()",
    );
    assert_eq!(groups, "kept");
}

/// Light and dark: paper, and the ink of text and plots on it.
fn colours(browser: &mut Chromium) {
    for (colours, dark) in [("light", false), ("dark", true)] {
        browser.prefer("screen", colours);
        let of = |browser: &mut Chromium, element: &str, property: &str| {
            luminance(&browser.evaluate(&format!(
                "getComputedStyle(document.querySelector({element:?})).{property}"
            )))
        };
        let paper = of(browser, "body", "backgroundColor");
        let ink = of(browser, "body", "color");
        let plot_ink = of(browser, "figure svg text[fill=\"#222222\"]", "fill");
        let plot_paper = of(browser, "figure svg [fill=\"#FFFFFF\"]", "fill");
        assert_eq!(paper < 80.0, dark, "{colours}: {paper}");
        assert!((paper - ink).abs() > 150.0, "{colours}: {paper} and {ink}");
        assert!(
            (plot_paper - plot_ink).abs() > 150.0,
            "{colours}: {plot_paper} and {plot_ink}"
        );
        if dark {
            keep(browser, "dark");
        }
    }
}

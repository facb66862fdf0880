use super::fixture;
use super::render::{Csv, Markdown, Render, Terminal};
use super::tables;

#[test]
fn show() {
    for data in [fixture::loss().data, fixture::augmentation(3).data, fixture::fixres(3).data, fixture::crop(1).predictions().data] {
        for table in tables(&data).unwrap() {
            println!("{}\n{}\n{}", Terminal { colour: false }.render(&table), Markdown.render(&table), Csv.render(&table));
        }
    }
}

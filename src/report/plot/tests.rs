use super::{plots, png};
use crate::report::table::fixture;

#[test]
#[ignore = "draws into /tmp"]
fn show() {
    let out = std::path::Path::new("/tmp/plots");
    std::fs::create_dir_all(out).unwrap();
    for data in gallery() {
        for plot in plots(&data).unwrap() {
            std::fs::write(out.join(format!("{}-{}.svg", data.experiment.name, plot.name)), &plot.svg).unwrap();
            std::fs::write(out.join(format!("{}-{}.png", data.experiment.name, plot.name)), png(&plot).unwrap()).unwrap();
        }
    }
}

fn gallery() -> Vec<crate::report::data::ExperimentData> {
    vec![fixture::loss().data, fixture::augmentation(3).data, fixture::fixres(3).data, fixture::epochs(3).data, fixture::crop(1).predictions().data]
}

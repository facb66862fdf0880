//! Training curves.

use crate::store::StoreError;
use crate::store::open::Store;
use crate::store::reads::number;
use crate::store::rows::CurveRow;
use sqlx::Row;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Every stage once: runs that share it are joined afterwards.
const STAGES: &str =
    "SELECT rs.stage FROM experiments e JOIN runs r ON r.experiment = e.id AND r.current = 1
    JOIN run_stages rs ON rs.run = r.id WHERE e.name = ?";

/// The curves of one stage by metric: (epoch, value).
type Curves = BTreeMap<Arc<str>, Vec<(u32, f64)>>;

impl Store {
    /// The training curves of the current runs of `experiment`, one point per epoch and metric:
    /// `train_loss`, `lr`, and evaluations as `<set>/<metric>`, those on `val` at the recipe's
    /// `eval.resolution`.
    pub async fn curves(&self, experiment: &str) -> Result<Vec<CurveRow>, StoreError> {
        let mut curves: HashMap<i64, Curves> = HashMap::new();
        self.epochs(experiment, &mut curves).await?;
        self.evaluations(experiment, &mut curves).await?;
        let owners = sqlx::query(
            "SELECT r.name, r.variant_index, r.seed, rs.name, rs.stage
             FROM experiments e JOIN runs r ON r.experiment = e.id AND r.current = 1
             JOIN run_stages rs ON rs.run = r.id
             WHERE e.name = ? ORDER BY r.variant_index, r.id, rs.position",
        )
        .bind(experiment)
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?;
        let mut points = Vec::new();
        for owner in &owners {
            let (run, stage): (String, String) = (owner.get(0), owner.get(3));
            let (run, stage): (Arc<str>, Arc<str>) = (run.into(), stage.into());
            for (metric, curve) in curves.get(&owner.get(4)).into_iter().flatten() {
                points.extend(curve.iter().map(|&(epoch, value)| CurveRow {
                    run: run.clone(),
                    variant_index: owner.get(1),
                    seed: owner.get::<i64, _>(2) as u64,
                    stage: stage.clone(),
                    epoch,
                    metric: metric.clone(),
                    value,
                }));
            }
        }
        Ok(points)
    }

    async fn epochs(
        &self,
        experiment: &str,
        curves: &mut HashMap<i64, Curves>,
    ) -> Result<(), StoreError> {
        let names = [Arc::<str>::from("train_loss"), "lr".into()];
        let sql =
            format!("SELECT stage, epoch, train_loss, lr FROM epochs WHERE stage IN ({STAGES})");
        self.scan(&sql, experiment, |row| {
            let curves = curves.entry(row.integer(0)).or_default();
            let epoch = row.integer(1) as u32;
            for (name, column) in names.iter().zip(2..) {
                push(curves, name, (epoch, number(row.real(column), None)));
            }
        })
        .await
    }

    async fn evaluations(
        &self,
        experiment: &str,
        curves: &mut HashMap<i64, Curves>,
    ) -> Result<(), StoreError> {
        let series: HashMap<i64, (Arc<str>, bool, u32)> = sqlx::query(
            "SELECT id, eval_set || '/' || metric, eval_set = 'val', resolution FROM series",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(self.sql())?
        .into_iter()
        .map(|row| {
            let name: String = row.get(1);
            (row.get(0), (name.into(), row.get(2), row.get(3)))
        })
        .collect();
        let headlines: HashMap<i64, u32> = self
            .headline_resolutions(experiment)
            .await?
            .into_iter()
            .map(|(stage, _, resolution)| (stage, resolution))
            .collect();
        // In the order of the table's key.
        let sql = format!(
            "SELECT stage, series, epoch, value, nonfinite FROM evaluations WHERE stage IN ({STAGES})
             ORDER BY stage, series, epoch, step"
        );
        self.scan(&sql, experiment, |row| {
            let stage = row.integer(0);
            let Some((name, is_val, resolution)) = series.get(&row.integer(1)) else {
                return;
            };
            // The final weights at another resolution are no point of the curve.
            let own = headlines.get(&stage).filter(|_| *is_val);
            if own.is_some_and(|own| own != resolution) {
                return;
            }
            let value = match row.real(3) {
                Some(value) => value,
                None => number(None, row.text(4)),
            };
            let point = (row.integer(2) as u32, value);
            let curves = curves.entry(stage).or_default();
            // Of several in one epoch the last.
            match curves.get_mut(name).and_then(|curve| curve.last_mut()) {
                Some(last) if last.0 == point.0 => *last = point,
                _ => push(curves, name, point),
            }
        })
        .await
    }
}

fn push(curves: &mut Curves, name: &Arc<str>, point: (u32, f64)) {
    match curves.get_mut(name) {
        Some(curve) => curve.push(point),
        None => drop(curves.insert(name.clone(), vec![point])),
    }
}

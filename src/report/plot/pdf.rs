//! PDF from SVG, for papers: vector lines and real text.

use super::{Picture, Plot, PlotError, raster};
use krilla::geom::{Size, Transform};
use krilla::image::Image;
use krilla::metadata::Metadata;
use krilla::page::PageSettings;
use krilla::{Document, SerializeSettings};
use krilla_svg::{SurfaceExt, SvgSettings};

/// PDF points per CSS pixel: 72 to the inch instead of 96.
const POINTS: f32 = 0.75;

/// The plot as a PDF of one page of its size, drawn from its SVG with the embedded font. It holds no date and no
/// random id: the same plot gives the same bytes.
pub fn pdf(plot: &Plot) -> Result<Vec<u8>, PlotError> {
    let failed = |message: String| PlotError::Pdf {
        plot: plot.name.clone(),
        message,
    };
    let tree = raster::parse(&plot.svg).map_err(|error| failed(error.to_string()))?;
    let (width, height) = (tree.size().width() * POINTS, tree.size().height() * POINTS);
    let (Some(size), Some(page)) = (
        Size::from_wh(width, height),
        PageSettings::from_wh(width, height),
    ) else {
        return Err(failed(format!("{width} × {height} points are no page")));
    };
    let mut document = Document::new_with(SerializeSettings::default());
    document.set_metadata(
        Metadata::new()
            .title(plot.caption.clone())
            .language("en".to_owned())
            .creator("ablate".to_owned()),
    );
    let mut page = document.start_page_with(page);
    let mut surface = page.surface();
    surface
        .draw_svg(&tree, size, SvgSettings::default())
        .ok_or_else(|| failed("its drawing has no form in PDF".to_owned()))?;
    for Picture { place, image } in &plot.pictures {
        let rgba = image
            .pixels()
            .flat_map(|[red, green, blue]| [*red, *green, *blue, 255])
            .collect();
        let (left, top) = (place.left as f32 * POINTS, place.top as f32 * POINTS);
        let side = Size::from_wh(
            place.width() as f32 * POINTS,
            place.height() as f32 * POINTS,
        )
        .ok_or_else(|| failed("a picture in it has no size".to_owned()))?;
        surface.push_transform(&Transform::from_translate(left, top));
        surface.draw_image(
            Image::from_rgba8(rgba, image.width() as u32, image.height() as u32),
            side,
        );
        surface.pop();
    }
    surface.finish();
    page.finish();
    document
        .finish()
        .map_err(|error| failed(format!("{error:?}")))
}

//! PNG from SVG.

use super::{Picture, Plot, PlotError, font};
use resvg::{tiny_skia, usvg};

/// Device pixels per CSS pixel: 288 to the inch.
const SCALE: f32 = 3.0;

/// The plot as PNG, drawn from its SVG with the embedded font.
pub fn png(plot: &Plot) -> Result<Vec<u8>, PlotError> {
    let failed = |message: String| PlotError::Raster {
        plot: plot.name.clone(),
        message,
    };
    let tree = parse(&plot.svg).map_err(|error| failed(error.to_string()))?;
    let size = tree.size();
    let (width, height) = (
        (size.width() * SCALE).ceil() as u32,
        (size.height() * SCALE).ceil() as u32,
    );
    let mut pixmap = tiny_skia::Pixmap::new(width, height)
        .ok_or_else(|| failed(format!("{width} × {height} pixels are too many")))?;
    resvg::render(
        &tree,
        tiny_skia::Transform::from_scale(SCALE, SCALE),
        &mut pixmap.as_mut(),
    );
    for picture in &plot.pictures {
        paint(&mut pixmap, picture)
            .ok_or_else(|| failed("a picture in it is too large".to_owned()))?;
    }
    pixmap
        .encode_png()
        .map_err(|error| failed(error.to_string()))
}

/// Lays a picture over the drawing.
fn paint(pixmap: &mut tiny_skia::Pixmap, picture: &Picture) -> Option<()> {
    let Picture { place, image } = picture;
    let (width, height) = (image.width() as u32, image.height() as u32);
    let mut own = tiny_skia::Pixmap::new(width, height)?;
    for (target, [red, green, blue]) in own.pixels_mut().iter_mut().zip(image.pixels()) {
        *target = tiny_skia::ColorU8::from_rgba(*red, *green, *blue, 255).premultiply();
    }
    let scale = |length: f64, own: u32| length as f32 * SCALE / own as f32;
    pixmap.draw_pixmap(
        0,
        0,
        own.as_ref(),
        &tiny_skia::PixmapPaint {
            quality: tiny_skia::FilterQuality::Bicubic,
            ..tiny_skia::PixmapPaint::default()
        },
        tiny_skia::Transform::from_row(
            scale(place.width(), width),
            0.0,
            0.0,
            scale(place.height(), height),
            place.left as f32 * SCALE,
            place.top as f32 * SCALE,
        ),
        None,
    );
    Some(())
}

/// The SVG as usvg understands it, with the embedded font alone and without pictures, which have their own way
/// into each output.
pub fn parse(svg: &str) -> Result<usvg::Tree, usvg::Error> {
    let options = usvg::Options {
        fontdb: font::database(),
        font_family: "Ablate Sans".to_owned(),
        image_href_resolver: usvg::ImageHrefResolver {
            resolve_data: Box::new(|_, _, _| None),
            resolve_string: Box::new(|_, _| None),
        },
        ..usvg::Options::default()
    };
    usvg::Tree::from_str(svg, &options)
}

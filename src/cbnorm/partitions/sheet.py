"""A contact sheet: random images of every cluster."""

from PIL import Image, ImageDraw
from torch import Tensor

from cbnorm.partitions.measures import sample

_GAP, _LINE, _PAPER, _INK = 2, 14, (255, 255, 255), (0, 0, 0)


def contact_sheet(
    images: Tensor, ids: Tensor, clusters: int, *, per_cluster: int = 24, columns: int = 12, seed: int = 0
) -> Image.Image:
    """Random images of every cluster, drawn from all its images alike, under a line with its share.

    Args:
        images: uint8 (N, 3, H, W).
        ids: Their clusters, int64 (N,).
        clusters: Number of clusters K.
        per_cluster: Images of each cluster, or as many as it has.
        columns: Images side by side.
        seed: Decides which images are shown.

    Returns:
        An RGB image.
    """
    side = images.shape[-1] + _GAP
    rows = -(-per_cluster // columns)
    height = _LINE + rows * (images.shape[-2] + _GAP) + _GAP
    sheet = Image.new("RGB", (columns * side + _GAP, clusters * height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for cluster in range(clusters):
        members = (ids == cluster).nonzero().flatten()
        share = 100 * len(members) / max(len(ids), 1)
        top = cluster * height
        draw.text((_GAP, top + 1), f"cluster {cluster}: {len(members)} images, {share:.1f} %", fill=_INK)
        for place, position in enumerate(members[sample(len(members), per_cluster, seed)].tolist()):
            row, column = divmod(place, columns)
            tile = Image.fromarray(images[position].permute(1, 2, 0).contiguous().numpy())
            sheet.paste(tile, (_GAP + column * side, top + _LINE + row * (images.shape[-2] + _GAP)))
    return sheet

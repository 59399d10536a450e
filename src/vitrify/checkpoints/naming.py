"""The timm name that comes nearest to an anatomy."""

from __future__ import annotations

import timm

from vitrify.checkpoints.sniffing import Anatomy, grid_of

_SIZES = {
    (192, 12): "tiny",
    (384, 12): "small",
    (512, 12): "medium",
    (640, 12): "betwixt",
    (768, 12): "base",
    (1024, 24): "large",
    (1152, 27): "so400m",
    (1280, 32): "huge",
    (1408, 40): "giant",
    (1536, 40): "giant",
    (1664, 48): "gigantic",
}
"""(width, depth) to timm's word for the size."""


def name_of(anatomy: Anatomy) -> str:
    """The timm name that fits best; whatever still differs becomes a keyword argument."""
    size = _SIZES.get((anatomy.embed_dim, anatomy.depth), "base")
    patch = anatomy.patch_size[0]
    grid = grid_of(anatomy.tokens, anatomy.patch_size) if anatomy.tokens else None
    image = grid[0] * patch if grid else 224
    for stem in _stems(anatomy):
        for side in (image, 224):
            name = stem.format(size=size, patch=patch, image=side)
            if timm.is_model(name):
                return name
    return "vit_base_patch16_224"


def _stems(anatomy: Anatomy) -> list[str]:
    """Names to try, the likeliest first."""
    has = anatomy.others
    wide = anatomy.embed_dim == 1536
    plain = "vit_{size}_patch{patch}_{image}"
    stems = [plain]
    if anatomy.distilled:
        stems = ["deit_{size}_distilled_patch{patch}_{image}", "deit_base_distilled_patch16_224"]
    elif anatomy.gated_mlp:
        stems = ["vit_giant_patch14_reg4_dinov2" if has["reg_tokens"] else "vit_giant_patch14_dinov2"]
    elif has["pre_norm"]:
        stems = ["vit_{size}_patch{patch}_clip_{image}", "vit_base_patch16_clip_224"]
    elif has["scale_attn_norm"]:
        stems = ["beit3_{size}_patch{patch}_{image}", "beit3_base_patch16_224"]
    elif has["global_pool"] == "map":
        siglip = "vit_giantopt_patch{patch}_siglip_{image}" if wide else "vit_{size}_patch{patch}_siglip_{image}"
        stems = [siglip, "vit_base_patch16_siglip_224"]
    elif not has["class_token"] and not has["fc_norm"]:
        # A norm before the pooling: SigLIP's tower without its attention pool, or timm's own gap models.
        siglip = (
            "vit_giantopt_patch{patch}_siglip_gap_{image}" if wide else "vit_{size}_patch{patch}_siglip_gap_{image}"
        )
        stems = [siglip, "vit_{size}_patch{patch}_gap_{image}", plain]
    elif has["class_token"] and has["init_values"]:
        deit3, dinov2 = "deit3_{size}_patch{patch}_{image}", "vit_{size}_patch{patch}_dinov2"
        stems = [deit3 if has["no_embed_class"] else dinov2, plain]
        if has["reg_tokens"] == 4:
            stems = ["vit_{size}_patch{patch}_reg4_dinov2", plain]
    return stems

"""Neural pose transfer with max pooling.

Wang et al., "Neural Pose Transfer by Spatially Adaptive Instance Normalization" (CVPR 2020), in the
form that video-to-mesh imitation uses: the pose mesh becomes one code by max pooling over its
vertices, the code is repeated for every vertex of the identity, and the first SPAdaIN residual
block has no instance normalisation (it would subtract a code that is constant over the vertices).
Every layer is a map shared by all vertices, so either mesh may have any number of them.

`NptSettings()` is that network to the letter. The other values of its fields go beyond it; what
each is worth is measured in docs/npt.md. Layers are linear on (..., vertices, channels), which runs
twice as fast as the equal 1x1 convolution on (channels, vertices), and the part of the first layer
that sees the code is applied once a mesh instead of once a vertex. npt_fast.py goes further where
no gradient is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from mvai.nets.npt_parts import (
    IdentityFeatures,
    PointNetEncoder,
    RoundsEncoder,
    moments_of,
)
from mvai.nets.npt_skeleton import IdentityJoints, JointFinder, joint_maps, rotations_from


@dataclass(frozen=True)
class NptSettings:
    """The network's form; the defaults are the published one."""

    code: int = 1024
    """Channels of the pose code."""
    widths: tuple[int, int, int] = (1027, 513, 256)
    """Channels of the three residual blocks."""
    encoder: Literal["pointnet", "rounds"] = "pointnet"
    """pointnet: three layers and one max pooling. rounds: positional encoding and two rounds of max
    pooling, the second knowing the outcome of the first."""
    encoder_width: int = 128
    """Channels of the hidden layers of the encoder in rounds."""
    identity: Literal["xyz", "features"] = "xyz"
    """What a vertex of the identity is known by: its position, or features learnt from its encoded
    position and from the identity as a whole (max pooling again)."""
    features: int = 64
    """Channels of those features."""
    normalise: bool = True
    """Instance normalisation in the second and third block."""
    output: Literal["absolute", "affine", "blended"] = "absolute"
    """absolute: the new position, 2 tanh(.). affine: twelve numbers a vertex, a matrix A and an
    offset t; the vertex goes to x + A x + t. blended (with joints): these are added to the blend of
    the joints' maps by learnt weights."""
    parents: tuple[int, ...] = ()
    """Parents of the joints whose rotations the code is read as (npt_skeleton.py); the decoder is
    then given the maps of the identity's own joints. Empty: the code is free. With joints,
    positions are in units of the identity's height and the output is in the frame of the body's
    root at rest, so that the global orientation is handled apart."""
    arms: tuple[int, int] = (0, 0)
    """Among these the joints of the left and right upper arm."""


class Spadain(nn.Module):
    """Spatially adaptive instance normalisation W(c) * IN(x) + B(c); c says which vertex it is."""

    def __init__(self, known_by: int, channels: int, normalise: bool) -> None:
        super().__init__()
        self.conv_weight = nn.Linear(known_by, channels)
        self.conv_bias = nn.Linear(known_by, channels)
        self.normalise = normalise

    def forward(
        self,
        x: Float[Tensor, "*mesh verts channels"],
        known: Float[Tensor, "*#mesh verts known"],
        moments: tuple[Tensor, Tensor] | None,
    ) -> Float[Tensor, "*mesh verts channels"]:
        W, B = self.conv_weight(known), self.conv_bias(known)
        if not self.normalise:
            return torch.addcmul(B, W, x)
        mean, scale = moments_of(x) if moments is None else moments
        return torch.addcmul(B, W, (x - mean.to(x)) * scale.to(x))


class SpadainResBlock(nn.Module):
    """Two normalised layers beside a normalised skip connection."""

    def __init__(self, known_by: int, channels: int, normalise: bool) -> None:
        super().__init__()
        self.spadain1 = Spadain(known_by, channels, normalise)
        self.conv1 = nn.Linear(channels, channels)
        self.spadain2 = Spadain(known_by, channels, normalise)
        self.conv2 = nn.Linear(channels, channels)
        self.spadain_res = Spadain(known_by, channels, normalise)
        self.conv_res = nn.Linear(channels, channels)
        self.normalise = normalise

    def middle(self, x: Tensor, known: Tensor, moments: tuple[Tensor, Tensor] | None) -> Tensor:
        """What the second normalisation sees."""
        return self.conv1(relu(self.spadain1(x, known, moments)))

    def forward(
        self,
        x: Tensor,
        known: Tensor,
        moments: tuple[Tensor, Tensor] | None = None,
        middle_moments: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        if self.normalise and moments is None:
            moments = moments_of(x)
        out = self.middle(x, known, moments)
        out = self.conv2(relu(self.spadain2(out, known, middle_moments)))
        return out + self.conv_res(relu(self.spadain_res(x, known, moments)))


class Decoder(nn.Module):
    """From a pose code and an identity's vertices to posed vertices."""

    def __init__(self, settings: NptSettings, code: int, known_by: int) -> None:
        super().__init__()
        a, b, c = settings.widths
        self.code = code
        self.conv1 = nn.Linear(code + known_by, a)
        self.spadain_block1 = SpadainResBlock(known_by, a, normalise=False)
        self.conv2 = nn.Linear(a, b)
        self.spadain_block2 = SpadainResBlock(known_by, b, settings.normalise)
        self.conv3 = nn.Linear(b, c)
        self.spadain_block3 = SpadainResBlock(known_by, c, settings.normalise)
        self.conv4 = nn.Linear(c, 3 if settings.output == "absolute" else 12)
        if settings.output == "blended":
            # Training starts from the blend alone.
            nn.init.zeros_(self.conv4.weight)
            nn.init.zeros_(self.conv4.bias)

    def folded(self, code: Float[Tensor, "*mesh code"]) -> Float[Tensor, "*mesh 1 channels"]:
        """The code's part of the first layer, the same for all vertices."""
        return linear(code, self.conv1.weight[:, : self.code], self.conv1.bias)[..., None, :]

    def first(self, known: Float[Tensor, "*mesh verts known"]) -> Tensor:
        """The vertices' part of the first layer."""
        return linear(known, self.conv1.weight[:, self.code :])

    def forward(
        self, code: Float[Tensor, "*mesh code"], known: Float[Tensor, "*#mesh verts known"]
    ) -> Float[Tensor, "*mesh verts out"]:
        x = self.first(known) + self.folded(code)
        x = self.conv2(self.spadain_block1(x, known))
        x = self.conv3(self.spadain_block2(x, known))
        return self.conv4(self.spadain_block3(x, known))


class Npt(nn.Module):
    """The whole network."""

    def __init__(self, settings: NptSettings | None = None) -> None:
        super().__init__()
        self.settings = s = settings or NptSettings()
        if s.encoder == "pointnet":
            self.encoder = PointNetEncoder(s.code)
        else:
            self.encoder = RoundsEncoder(s.code, s.encoder_width)
        known_by, code = 3, s.code
        if s.identity == "features":
            self.identity_features = IdentityFeatures(s.features)
            known_by = 3 + s.features
        if s.parents:
            J = len(s.parents)
            self.rotations = nn.Linear(s.code, 6 * J)
            self.joint_finder = JointFinder(J)
            self.skin_weights = nn.Linear(known_by, J)
            code = 12 * J
        self.decoder = Decoder(s, code, known_by)

    def encode(self, pose: Float[Tensor, "*mesh points 3"]) -> Float[Tensor, "*mesh code"]:
        """The pose code of meshes (or samples of their surfaces)."""
        return self.encoder(pose)

    def identity_code(
        self, identity: Float[Tensor, "*mesh points 3"]
    ) -> Float[Tensor, "*mesh features"] | None:
        """What is known of the identity as a whole; None where the form does not use it."""
        if self.settings.identity == "xyz":
            return None
        return self.identity_features.pooled(identity)

    def known(
        self,
        identity: Float[Tensor, "*mesh verts 3"],
        identity_code: Float[Tensor, "*mesh features"] | None,
    ) -> Float[Tensor, "*mesh verts known"]:
        """What each vertex of the identity is known by."""
        if identity_code is None:
            return identity
        features = self.identity_features(identity, identity_code)
        return torch.cat([identity.to(features), features], -1)

    def pose_rotations(
        self, pose: Float[Tensor, "*mesh points 3"]
    ) -> Float[Tensor, "*mesh joints 3 3"]:
        """Local joint rotations of pose meshes, for a form with joints."""
        return rotations_from(self.rotations(self.encode(pose)))

    def maps(
        self, R_local: Float[Tensor, "*mesh joints 3 3"], identity: IdentityJoints
    ) -> Float[Tensor, "*mesh joints 3 4"]:
        """What a pose means for the joints of an identity (npt_skeleton.joint_maps)."""
        return joint_maps(self.settings.parents, self.settings.arms, R_local, identity)

    def code_of_maps(self, maps: Float[Tensor, "*mesh joints 3 4"]) -> Float[Tensor, "*mesh code"]:
        """The decoder's code in a form with joints: how far each map is from leaving in place."""
        return (maps - torch.eye(3, 4, device=maps.device)).flatten(-3)

    def weights(
        self, known: Float[Tensor, "*mesh verts known"]
    ) -> Float[Tensor, "*mesh verts joints"]:
        """Share of every joint in the movement of each vertex, which training asks for too."""
        return self.skin_weights(known.to(self.skin_weights.weight)).float().softmax(-1)

    def placed(
        self,
        out: Float[Tensor, "*mesh verts out"],
        identity: Float[Tensor, "*#mesh verts 3"],
        blend: Float[Tensor, "*mesh verts 12"] | None = None,
    ) -> Float[Tensor, "*mesh verts 3"]:
        """Positions from the decoder's last layer (and from `blend`, for that form)."""
        out = out.float()
        if self.settings.output == "absolute":
            return 2 * out.tanh()
        if blend is not None:
            out = out + blend
        M = out.unflatten(-1, (3, 4))
        return identity + (M[..., :3] * identity[..., None, :]).sum(-1) + M[..., 3]

    def blend(
        self,
        maps: Float[Tensor, "*mesh joints 3 4"],
        weights: Float[Tensor, "*#mesh verts joints"],
    ) -> Float[Tensor, "*mesh verts 12"] | None:
        """Maps blended by `weights`, less the identity; None where the form does not use them."""
        if self.settings.output != "blended":
            return None
        with torch.autocast(maps.device.type, enabled=False):
            return weights @ (maps - torch.eye(3, 4, device=maps.device)).flatten(-2)

    def forward(
        self,
        pose: Float[Tensor, "*mesh points 3"],
        identity: Float[Tensor, "*#mesh verts 3"],
    ) -> Float[Tensor, "*mesh verts 3"]:
        """The identity in the pose of the other mesh."""
        known = self.known(identity, self.identity_code(identity))
        if self.settings.parents:
            maps = self.maps(self.pose_rotations(pose), self.joint_finder(identity))
            out = self.decoder(self.code_of_maps(maps).to(known), known)
            return self.placed(out, identity, self.blend(maps, self.weights(known)))
        return self.placed(self.decoder(self.encode(pose), known), identity)

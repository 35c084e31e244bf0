"""StyleGAN2 configuration F: mapping and synthesis networks, in plain PyTorch.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN" (2020), with the parameter names of
the widely used PyTorch conversion of the FFHQ network, so that its files load by their own keys. There are no
compiled extensions: the two-fold up-sampling runs as a strided transposed convolution and a 4 x 4 filter, which
costs a quarter of convolving the zero-stuffed grid.

Numbers: ``synthesise`` takes codes (B, N, 512), one row per modulated layer, and returns RGB (B, 3, S, S), nominally
in [-1, 1] but **not clamped**. N = 2 log2(S) - 2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STYLE_SIZE = 512
SQRT2 = math.sqrt(2.0)
#: the binomial filter [1, 3, 3, 1]; its gain of 4 makes up for the zeros that up-sampling inserts
FIR_TAPS = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 16.0
#: From this resolution on, layers may run in 16 bits (see :meth:`StyleGAN2.synthesise`).
HALF_PRECISION_FROM = 128


def style_count(output_size: int) -> int:
    """Rows of a W+ code for images of ``output_size`` (a power of two): 18 at 1024."""
    return 2 * int(math.log2(output_size)) - 2


def channels_at(resolution: int) -> int:
    """Feature channels at a resolution: 512 up to 64, then halved with every doubling."""
    return min(512, 32768 // resolution)


class EqualizedLinear(nn.Module):
    """x W^T r / sqrt(D) + r b for D inputs and a learning-rate multiplier r (equalised learning rate).

    With ``activation``, followed by the scaled leaky ReLU of :func:`scaled_leaky_relu`.
    """

    def __init__(
        self, in_features: int, out_features: int, lr_multiplier: float = 1.0, activation: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.zeros(out_features))
        self.weight_scale = lr_multiplier / math.sqrt(in_features)
        self.bias_scale = lr_multiplier
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight * self.weight_scale, self.bias * self.bias_scale)
        return scaled_leaky_relu(y) if self.activation else y


def scaled_leaky_relu(x: Tensor) -> Tensor:
    """sqrt(2) leaky_relu(x, 0.2), which keeps the variance of a unit Gaussian near one."""
    return SQRT2 * F.leaky_relu(x, 0.2)


class PixelNorm(nn.Module):
    """Scale every latent vector to unit mean square."""

    def forward(self, z: Tensor) -> Tensor:
        return z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + 1e-8)


class FIRFilter(nn.Module):
    """The 4 x 4 filter [1, 3, 3, 1] x [1, 3, 3, 1] / 16 of every up-sampling (files store it as ``kernel``)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", FIR_TAPS.clone())

    def smooth(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Filter (B, C, 2H+1, 2W+1) to (B, C, 2H, 2W); ``bias`` (C,) is added on the way."""
        channels = x.shape[1]
        return F.conv2d(x, self._per_channel(x), bias, padding=1, groups=channels)

    def double(self, x: Tensor) -> Tensor:
        """Up-sample (B, C, H, W) to (B, C, 2H, 2W)."""
        # one strided transposed convolution is zero-stuffing and filtering at once (the filter is symmetric)
        return F.conv_transpose2d(x, self._per_channel(x), stride=2, padding=1, groups=x.shape[1])

    def _per_channel(self, x: Tensor) -> Tensor:
        return self.kernel.to(x.dtype).expand(x.shape[1], 1, 4, 4).contiguous()


class ModulatedConv2d(nn.Module):
    """Convolution whose input channels are scaled by a style, and whose output is demodulated.

    Args:
        in_channels, out_channels, kernel_size: of the convolution (cross-correlation, "same" padding).
        style_size: length of the style vector.
        demodulate: scale every output channel to unit expected variance.
        upsample: double the resolution (3 x 3 kernels only).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style_size: int = STYLE_SIZE,
        demodulate: bool = True,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, out_channels, in_channels, kernel_size, kernel_size))
        self.modulation = EqualizedLinear(style_size, in_channels)
        if upsample:
            self.blur = FIRFilter()
        self.weight_scale = 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.padding = kernel_size // 2
        self.demodulate = demodulate
        self.upsample = upsample

    def forward(self, x: Tensor, style: Tensor, gain: float = 1.0, bias: Tensor | None = None) -> Tensor:
        """``gain`` * convolution + ``bias``, in the number format of ``x``; ``style`` is (B, style_size) float32."""
        weight, scale_in, scale_out = self._modulation(style, gain)
        if bias is not None:
            bias = bias.to(x.dtype)
        if len(x) == 1:
            # one sample: scaling the small weights saves two passes over the large feature map
            weight = weight * scale_in.view(1, -1, 1, 1) * scale_out.view(-1, 1, 1, 1)
            return self._convolve(x, weight.to(x.dtype), bias)
        y = self._convolve(x * scale_in.to(x.dtype)[:, :, None, None], weight.to(x.dtype), None)
        scale_out = scale_out.to(x.dtype)[:, :, None, None]
        return y * scale_out if bias is None else torch.addcmul(bias.view(1, -1, 1, 1), y, scale_out)

    def _modulation(self, style: Tensor, gain: float) -> tuple[Tensor, Tensor, Tensor]:
        """Float32 weight (O, I, k, k), input scale (B, I) and output scale (B, O).

        The style is divided by its largest entry and the output multiplied by it, so that 16-bit features
        cannot overflow on the way through the convolution.
        """
        weight = self.weight[0] * self.weight_scale
        style = self.modulation(style)
        peak = style.abs().amax(dim=1, keepdim=True).clamp_min(1e-8)
        scale_out = (gain * peak).expand(-1, weight.shape[0])
        if self.demodulate:
            energy = style.square() @ weight.square().sum(dim=(2, 3)).t()
            scale_out = scale_out * torch.rsqrt(energy + 1e-8)
        return weight, style / peak, scale_out

    def _convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.upsample:
            return self.blur.smooth(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), bias)
        return F.conv2d(x, weight, bias, padding=self.padding)


class NoiseInjection(nn.Module):
    """Holds the learned strength of the noise of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class BiasedActivation(nn.Module):
    """Bias per channel, then :func:`scaled_leaky_relu`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return scaled_leaky_relu(x + self.bias.view(1, -1, 1, 1))


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias and activation."""

    def __init__(
        self, in_channels: int, out_channels: int, style_size: int = STYLE_SIZE, upsample: bool = False
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, 3, style_size, upsample=upsample)
        self.noise = NoiseInjection()
        self.activate = BiasedActivation(out_channels)

    def forward(self, x: Tensor, style: Tensor, noise: Tensor) -> Tensor:
        # sqrt(2) lrelu(v) = lrelu(sqrt(2) v): the gain goes into the convolution, the bias and the noise,
        # which leaves two in-place passes over the feature map
        y = self.conv(x, style, gain=SQRT2, bias=SQRT2 * self.activate.bias)
        y += (SQRT2 * self.noise.weight * noise).to(y.dtype)
        return F.leaky_relu_(y, 0.2)


class ToRGB(nn.Module):
    """Features to RGB by a modulated 1 x 1 convolution, added to the up-sampled RGB of the resolution below."""

    def __init__(self, in_channels: int, style_size: int = STYLE_SIZE, upsample: bool = True) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        if upsample:
            self.upsample = FIRFilter()
        self.conv = ModulatedConv2d(in_channels, 3, 1, style_size, demodulate=False)

    def forward(self, x: Tensor, style: Tensor, rgb: Tensor | None = None) -> Tensor:
        # RGB is always summed in float32: 16 bits would show as banding
        y = self.conv(x.float(), style, bias=self.bias.flatten())
        return y if rgb is None else y + self.upsample.double(rgb)


class ConstantInput(nn.Module):
    """The learned 4 x 4 feature map that every image starts from."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))


class NoiseBuffers(nn.Module):
    """The stored noise images of all layers; they make the fine texture of one code the same at every call."""

    def __init__(self, count: int) -> None:
        super().__init__()
        for index in range(count):
            size = 2 ** ((index + 5) // 2)
            self.register_buffer(f"noise_{index}", torch.randn(1, 1, size, size))

    def __getitem__(self, index: int) -> Tensor:
        return getattr(self, f"noise_{index}")


class StyleGAN2(nn.Module):
    """Mapping network z -> w and synthesis network W+ -> image.

    Args:
        output_size: side of the images, a power of two from 8 (1024 for FFHQ configuration F).
    """

    def __init__(self, output_size: int = 1024) -> None:
        super().__init__()
        self.output_size = output_size
        self.style_count = style_count(output_size)
        self.style = nn.Sequential(
            PixelNorm(),
            *(EqualizedLinear(STYLE_SIZE, STYLE_SIZE, lr_multiplier=0.01, activation=True) for _ in range(8)),
        )
        self.input = ConstantInput(channels_at(4))
        self.conv1 = StyledConv(channels_at(4), channels_at(4))
        self.to_rgb1 = ToRGB(channels_at(4), upsample=False)
        self.convs = nn.ModuleList()
        self.to_rgbs = nn.ModuleList()
        for level in range(3, int(math.log2(output_size)) + 1):
            below, here = channels_at(2 ** (level - 1)), channels_at(2**level)
            self.convs.append(StyledConv(below, here, upsample=True))
            self.convs.append(StyledConv(here, here))
            self.to_rgbs.append(ToRGB(here))
        self.noises = NoiseBuffers(1 + len(self.convs))

    def map(self, z: Tensor) -> Tensor:
        """Latents z (B, 512), standard normal, to styles w (B, 512)."""
        return self.style(z)

    def synthesise(self, codes: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """W+ codes (B, N, 512) to RGB (B, 3, S, S) in float32, about [-1, 1], not clamped.

        Args:
            codes: one row per modulated layer; ``w[:, None].expand(-1, N, -1)`` for a plain w.
            dtype: number format of the feature maps from 128 x 128 on. Styles, demodulation, the layers
                below 128 and the RGB sum are float32 whatever it is.
        """
        rows = codes.float().unbind(dim=1)
        x = self.input.input.expand(len(codes), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.conv1(x, rows[0], self.noises[0])
        rgb = self.to_rgb1(x, rows[1])
        for level, to_rgb in enumerate(self.to_rgbs):
            first, second = self.convs[2 * level], self.convs[2 * level + 1]
            if 2 * x.shape[-1] >= HALF_PRECISION_FROM:
                x = x.to(dtype)
            x = first(x, rows[2 * level + 1], self.noises[2 * level + 1])
            x = second(x, rows[2 * level + 2], self.noises[2 * level + 2])
            rgb = to_rgb(x, rows[2 * level + 3], rgb)
        return rgb


def truncate(w: Tensor, mean: Tensor, psi: float) -> Tensor:
    """Pull styles towards their mean: mean + psi (w - mean). Less psi, less variety, fewer broken faces."""
    return mean + psi * (w - mean)

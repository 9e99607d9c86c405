"""A coin: how biased is it, and how will it fall next?

The bias is one of nineteen values, all equally likely before we look. Enumeration goes through all
of them, weighs what we saw, and gives the posterior of anything that the model names.
"""

import contpoutine as cp
import contpoutine.distributions as dist

BIASES = [i / 20 for i in range(1, 20)]


def coin(falls):
    bias = yield cp.sample("bias", dist.UniformDraw(BIASES))
    for heads in falls:
        yield cp.observe("fall", dist.Flip(bias), heads)
    yield cp.sample("next", dist.Flip(bias))
    return "fair enough" if 0.4 <= bias <= 0.6 else "biased"


def main():
    falls = [letter == "h" for letter in "hhthhhthhh"]
    posterior = cp.infer.enumerate(coin)(falls)
    print(posterior)
    bias = posterior.marginal("bias")
    print(
        f"after {sum(falls)} heads of {len(falls)}: bias {bias.mean:.4f}, most likely {bias.mode}"
    )
    print(f"heads next: {posterior.marginal('next')[True]:.4f}")


if __name__ == "__main__":
    main()

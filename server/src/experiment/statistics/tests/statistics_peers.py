#!/usr/bin/env python3
"""Makes statistics_peers.json: experiments from a seed, and what SciPy and statsmodels say of them.

    python3 -m venv venv && venv/bin/pip install numpy scipy statsmodels
    venv/bin/python statistics_peers.py > statistics_peers.json

Wherever statsmodels has a model that must come to the same, it is asked rather than the formula repeated: regression with errors
clustered by user for ratios, analysis of covariance for CUPED, NonlinearDeltaCov for lifts.
"""
import json
import math

import numpy as np
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats import power, proportion
from statsmodels.stats._delta_method import NonlinearDeltaCov
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

ALPHA = 0.05
# The stream of RandomState never changes from version to version.
RANDOM = np.random.RandomState(20_230_501)


def conversion(users, rate):
    """Whether users bought; those who bought before do so more often."""
    before = RANDOM.poisson(0.8, users)
    bought = RANDOM.random_sample(users) < rate * (0.5 + 0.5 * before)
    return bought.astype(int), np.ones(users, int), before


def revenue(users, factor):
    """What users paid, most of them nothing, in relation to what they paid before."""
    before = np.where(RANDOM.random_sample(users) < 0.5, RANDOM.lognormal(4, 1, users), 0)
    paid = np.where(RANDOM.random_sample(users) < 0.3, RANDOM.lognormal(4, 0.7, users), 0) + 0.4 * before
    return np.round(factor * paid, 2), np.ones(users, int), np.round(before, 2)


def clicks(users, factor):
    """Clicks by answers: users differ in how many answers they see, and in how often they click."""
    answers = 1 + RANDOM.poisson(3, users)
    rate = RANDOM.beta(2, 8, users)
    before = RANDOM.binomial(20, rate)
    return RANDOM.binomial(answers, np.minimum(1, factor * rate)), answers, before


def arm_estimate(y, d, _):
    """Of a ratio, by regression of its answers on a constant, or of a mean, as one."""
    if (d == 1).all():
        mean = DescrStatsW(y, ddof=1)
        return mean.mean, mean.std_mean
    user = np.repeat(np.arange(len(d)), d)
    clicked = np.concatenate([np.arange(of) < count for count, of in zip(y, d)]).astype(float)
    fit = sm.OLS(clicked, np.ones_like(clicked)).fit(cov_type="cluster", cov_kwds={"groups": user})
    return fit.params[0], fit.bse[0]


def cuped(arms):
    """Both arms' values by unit, linearised and without what the covariate tells; slope and correlation are those of an analysis of
    covariance."""
    ratios = [y.sum() / d.sum() for y, d, _ in arms]
    z = np.concatenate([r + (y - r * d) / d.mean() for r, (y, d, _) in zip(ratios, arms)])
    x = np.concatenate([x for _, _, x in arms]).astype(float)
    treated = np.repeat([0.0, 1.0], [len(y) for y, _, _ in arms])
    without = sm.OLS(z, sm.add_constant(treated)).fit()
    within = sm.OLS(z, sm.add_constant(np.column_stack([treated, x]))).fit()
    slope = within.params[2]
    correlation = math.copysign(math.sqrt(1 - within.ssr / without.ssr), slope)
    adjusted = z - slope * (x - x.mean())
    return slope, correlation, within.params[1], adjusted[treated == 0], adjusted[treated == 1]


def sequence_half_width(standard_error, n, tightest_at):
    """Waudby-Smith et al., as written there."""
    rho = math.sqrt((-2 * math.log(ALPHA) + math.log(-2 * math.log(ALPHA) + 1)) / tightest_at)
    sigma = standard_error * math.sqrt(n)
    return sigma * math.sqrt(
        2 * (n * rho**2 + 1) / (n**2 * rho**2) * math.log(math.sqrt(n * rho**2 + 1) / ALPHA)
    )


def figures(value, standard_error, low, high, p_value, n):
    sequence = sequence_half_width(standard_error, n, 5000)
    return {
        "value": value,
        "standard_error": standard_error,
        "interval": [low, high],
        "p_value": p_value,
        "always_valid_interval": [value - sequence, value + sequence],
    }


def comparison(arms, n):
    """Of two arms' values and standard errors: the difference and the lift."""
    (control, control_error), (treatment, treatment_error) = arms
    cov = np.diag([control_error**2, treatment_error**2])
    result = {"control": list(arms[0]), "treatment": list(arms[1])}
    functions = {"difference": lambda p: np.array([p[1] - p[0]]), "lift": lambda p: np.array([p[1] / p[0] - 1])}
    for name, function in functions.items():
        delta = NonlinearDeltaCov(function, np.array([control, treatment]), cov)
        (value,), (standard_error,) = delta.predicted(), delta.se_vectorized()
        ((low, high),) = delta.conf_int(ALPHA)
        result[name] = figures(value, standard_error, low, high, float(delta.wald_test(0)[1]), n)
    return result


def experiment(metric, users, effects):
    arms = [metric(count, effect) for count, effect in zip(users, effects)]
    n = sum(users)
    plain = comparison([arm_estimate(*arm) for arm in arms], n)
    slope, correlation, difference, control, treatment = cuped(arms)
    adjusted = comparison([(of.mean(), DescrStatsW(of, ddof=1).std_mean) for of in (control, treatment)], n)
    # Two more witnesses: Welch's statistic with the normal distribution, and the analysis of covariance itself.
    welch = CompareMeans(DescrStatsW(treatment), DescrStatsW(control))
    _, p_value = welch.ztest_ind(usevar="unequal")
    low, high = welch.zconfint_diff(alpha=ALPHA, usevar="unequal")
    assert np.allclose([low, high], adjusted["difference"]["interval"], rtol=1e-9)
    adjusted["difference"] = figures(difference, welch.std_meandiff_separatevar, low, high, p_value, n)
    columns = lambda arm: dict(zip(["numerator", "denominator", "covariate"], (column.tolist() for column in arm)))
    return {
        "arms": [columns(arm) for arm in arms],
        "plain": plain,
        "adjusted": {"slope": slope, "correlation": correlation, **adjusted},
    }


def latencies(users, factor):
    """How long answers took: to some users all take longer."""
    answers = 1 + RANDOM.poisson(4, users)
    user = np.repeat(np.arange(users), answers)
    took = factor * RANDOM.lognormal(2, 0.3, users)[user] * RANDOM.lognormal(0, 0.5, len(user))
    # Numbers that 32 bits hold exactly.
    return user, np.round(took * 64) / 64


def percentile_estimate(user, took, share):
    """The percentiles at the ends of the interval of the share that is not above the percentile; answers are clustered by user."""
    of = lambda share: np.quantile(took, share, method="inverted_cdf")
    below = (took <= of(share)).astype(float)
    fit = sm.OLS(below, np.ones_like(below)).fit(cov_type="cluster", cov_kwds={"groups": user})
    reach = stats.norm.isf(0.025)
    return of(share), (of(share + reach * fit.bse[0]) - of(share - reach * fit.bse[0])) / (2 * reach)


def percentiles(share, users, factors):
    arms = [latencies(count, factor) for count, factor in zip(users, factors)]
    told = comparison([percentile_estimate(*arm, share) for arm in arms], sum(users))
    columns = lambda arm: {"unit": arm[0].tolist(), "number": arm[1].tolist()}
    return {"share": share, "arms": [columns(arm) for arm in arms], **told}


def mismatch(observed, weights):
    expected = np.array(weights) / sum(weights) * sum(observed)
    return {"observed": observed, "weights": weights, "p_value": stats.chisquare(observed, expected).pvalue}


def preference(control, treatment):
    total = control + treatment
    return {
        "control": control,
        "treatment": treatment,
        "p_value": stats.binomtest(control, total, 0.5).pvalue,
        "interval": list(proportion.proportion_confint(treatment, total, ALPHA, method="wilson")),
    }


def plan(control, treatment, split, alpha, wanted):
    ratio = split / (1 - split)
    # With this effect size, statsmodels' variance of the difference is that of two unpooled shares.
    variance = (control * (1 - control) + treatment * (1 - treatment) / ratio) / (1 + 1 / ratio)
    effect = (treatment - control) / math.sqrt(variance)
    test = power.NormalIndPower()
    units = test.solve_power(abs(effect), alpha=alpha, power=wanted, ratio=ratio) * (1 + ratio)
    given = 12_345
    return {
        "control": control,
        "treatment": treatment,
        "split": split,
        "alpha": alpha,
        "wanted_power": wanted,
        "units": math.ceil(units),
        "given_units": given,
        "given_power": test.power(effect, given * (1 - split), alpha, ratio=ratio),
    }


PEERS = {
    "experiments": {
        "conversion": experiment(conversion, [700, 650], [0.2, 0.25]),
        "revenue": experiment(revenue, [500, 450], [1.0, 1.1]),
        "clicks": experiment(clicks, [600, 640], [1.0, 1.15]),
    },
    "mismatches": [
        mismatch([5_000, 5_200], [0.5, 0.5]),
        mismatch([50_000, 50_000], [1, 1]),
        mismatch([100_000, 900_000], [1, 9.1]),
        mismatch([330, 300, 350], [1, 1, 1]),
        mismatch([900, 60, 55, 52], [0.85, 0.05, 0.05, 0.05]),
        mismatch([101, 95, 99, 120, 80, 104, 97, 88], [1] * 8),
    ],
    "preferences": [
        preference(*pair)
        for pair in [
            (0, 1), (5, 5), (8, 3), (3, 8), (0, 40), (60, 40), (487, 513), (5_000, 5_200), (499_000, 501_000),
            (5_000_000, 5_000_000), (4_996_000, 5_004_000), (5_020_000, 4_980_000), (4_900_000, 5_100_000),
        ]
    ],
    "plans": [
        plan(0.1, 0.11, 0.5, 0.05, 0.8),
        plan(0.03, 0.025, 0.5, 0.05, 0.9),
        plan(0.3, 0.33, 0.1, 0.01, 0.8),
        plan(0.5, 0.9, 0.7, 0.05, 0.95),
    ],
    "normal_tails": [[z, stats.norm.sf(z)] for z in [-3.0, -0.5, 0.0, 0.3, 1.0, 1.96, 3.3, 6.0, 12.0, 30.0]],
    "normal_quantiles": [[p, stats.norm.isf(p)] for p in [1e-100, 1e-9, 5e-4, 0.005, 0.025, 0.2, 0.4999, 0.5, 0.8, 0.999]],
    "percentiles": [percentiles(0.5, [300, 280], [1.0, 1.1]), percentiles(0.99, [500, 520], [1.0, 0.9])],
}
print(json.dumps(PEERS, separators=(",", ":")))

"""Classifier two-sample test (Lopez-Paz and Oquab 2017) of a method's posterior against the exact one.

Joint: each event gives two rows, (y, one draw of the method) and (y, one exact draw), and a classifier learns to tell
them apart. The marginal of y is the same on both sides, so that accuracy above one half is in the posteriors; and over
many events no posterior need be drawn more than once. The classifier is that of sbibm (Lueckmann et al. 2021, arXiv
2101.04653), for comparison with published numbers: an MLP of two hidden layers of 10 units for each component, inputs
z-scored, 5 folds, the mean accuracy on rows left out. Both rows of an event are in the same fold: rows that share y
would otherwise leak from training to test.

The accuracy is 1/2 where the two posteriors agree and 1 where every draw is classified correctly. Estimates can lie
slightly below 1/2 and are not clipped. The floor is the classifier's accuracy between two independent exact draws.
"""

import warnings

import numpy as np

from pullback.core import seeding
from pullback.core.optional import require
from pullback.ensembles.fields import Field
from pullback.metrics.sample import deviation

FOLDS = 5
UNITS = 10
"""Units of a hidden layer for each component."""

MOST_UNITS = 200
MOST_ROUNDS = 50
"""Passes through the training rows at most. With a thousand events more of them only learn the rows by heart: between
Gaussians 0.3 of their width apart the accuracy on rows left out is 0.594 after 50, 0.591 after 100, 0.577 after 200."""


def features(values: np.ndarray, field: Field) -> np.ndarray:
    """Values (event, component) as a classifier can read them: angles as sine and cosine."""
    values = values.astype(np.float64)
    if not field.is_vector:
        return values
    angles = np.array([transform == "periodic" for transform in field.transforms])
    return np.concatenate([values[:, ~angles], np.sin(values[:, angles]), np.cos(values[:, angles])], axis=1)


def correct(y: np.ndarray, ours: np.ndarray, theirs: np.ndarray, address: seeding.Address) -> np.ndarray:
    """Fraction of an event's two rows that are classified correctly in cross-validation (event,).

    Args:
        y, ours, theirs: features (event, ...) of the observations and of one draw each of the two posteriors.
        address: of folds and of the classifiers' starts.
    """
    require("sklearn", extra="evaluate")
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    n = len(y)
    both = np.concatenate([np.hstack([y, ours]), np.hstack([y, theirs])])
    both = (both - both.mean(axis=0)) / deviation(both)
    label = np.repeat([0, 1], n)
    fold = seeding.generator(*address, "folds").permutation(n) % min(FOLDS, n)
    right = np.empty(2 * n)
    units = min(MOST_UNITS, UNITS * both.shape[1])
    for number in range(min(FOLDS, n)):
        held = np.tile(fold == number, 2)
        classifier = MLPClassifier(
            (units, units),
            max_iter=MOST_ROUNDS,
            random_state=seeding.integer_seed(*address, "classifier", number),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(both[~held], label[~held])
        right[held] = classifier.predict(both[held]) == label[held]
    return right.reshape(2, n).mean(axis=0)

"""HMMs and posteriors drawn at random, and hmmlearn's dense Viterbi, for tests of speech."""

from hmmlearn import _hmmc
import numpy as np

from shallow_jax.speech import hmm


def model(num_labels, seed=0, boundary=1):
  rng = np.random.default_rng(seed)
  stay = rng.uniform(0.1, 0.7, 3 * num_labels)
  return hmm.Hmm(
    log_bigram=log(rng.dirichlet(np.full(num_labels, 0.5), num_labels)),
    log_stay=log(stay),
    log_leave=log(1 - stay),
    log_prior=log(rng.dirichlet(np.full(3 * num_labels, 10.0))),
    boundary=boundary,
  )


def log_posteriors(lengths, num_labels, seed=0):
  rng = np.random.default_rng(seed)
  return [log(rng.dirichlet(np.ones(3 * num_labels), length)) for length in lengths]


def log(probabilities):
  return np.log(np.maximum(probabilities, 1e-12)).astype(np.float32)


def hmmlearn_path(likelihoods, transitions, first, last):
  """Score and path of hmmlearn's Viterbi from the first state to the last.

  Args:
    likelihoods: log [frames, states].
    transitions: not log [states, states], 0 where there is none; rows need not sum to 1.
    first: a state's index.
    last: a state's index.
  """
  start = np.eye(len(transitions))[first]
  ending = np.array(likelihoods, np.float64)
  ending[-1, np.arange(len(transitions)) != last] = -np.inf
  return _hmmc.viterbi(start, np.asarray(transitions, np.float64), ending)

"""Lists the packages, as setup.cfg can't: those found, and configs/, which ships inside of them."""

import setuptools

found = setuptools.find_packages(include=['shallow_jax', 'shallow_jax.*'])
setuptools.setup(
  packages=[*found, 'shallow_jax.configs'], package_dir={'shallow_jax.configs': 'configs'}
)

"""Servers of the engines that are Python libraries: they run in those engines' runtimes.

A runtime has no Modelry installed, so nothing here imports anything of Modelry outside this
package, or any library at its top that the runtime of every runner does not have. `launch.py`
is how one is started.
"""

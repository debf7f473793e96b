"""What is wrong with a deployment, and what to do: facts, checks of them, and a judgement.

`gather` asks every source side by side, each check in `checks/` is a pure function from facts to findings,
and `judging` orders the findings and folds what follows from another under it.
"""

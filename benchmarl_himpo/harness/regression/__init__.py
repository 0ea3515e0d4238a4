"""The regression gate: does this code still learn what it learned when the baseline was taken?"""

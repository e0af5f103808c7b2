"""Other APIs than OpenAI's chat completions, made those: their requests, answers and streams."""

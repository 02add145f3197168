"""Body models, skinning and joint regressors."""

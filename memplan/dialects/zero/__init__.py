"""DeepSpeed's settings, wherever they stand: in a JSON of their own, in a training config or a launcher's."""

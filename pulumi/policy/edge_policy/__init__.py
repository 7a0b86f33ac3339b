"""Rules over what the engine is about to make, cloud by cloud. Pure: properties in, sentences out."""

"""The page's sections: widgets that draw the state of presenters, and the buttons that lead back to them."""
